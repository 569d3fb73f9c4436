use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn way(ratio: f64, room: usize) -> (Traces, mpsc::Receiver<SpanData>) {
    let (spans, heard) = mpsc::channel(room);
    (Traces(Arc::new(Way { spans, ratio, metrics: Metrics::new().unwrap() })), heard)
}

fn came_with(sampled: bool) -> TraceParent {
    TraceParent { trace: TraceId::random(), span: SpanId::random(), sampled }
}

fn told() -> Told {
    let (name, took) = ("work".into(), Duration::from_millis(5));
    Told { name, side: Side::Server, took, facts: Vec::new(), failed: false }
}

#[test]
fn whoever_asks_decides_and_else_a_share_is_drawn() {
    let (all, none) = (way(1.0, 1).0, way(0.0, 1).0);
    assert!(all.begin(None, false).is_some() && none.begin(None, true).is_none());
    assert!(none.begin(Some(came_with(true)), true).is_some());
    assert!(all.begin(Some(came_with(false)), true).is_none());
    let stranger = came_with(false);
    let linked = all.begin(Some(stranger), false).unwrap();
    assert_eq!(linked.id(), stranger.trace, "it is linked, and nothing more");
    assert!(none.begin(Some(came_with(true)), false).is_none());
}

#[test]
fn a_part_is_told_below_its_request_in_the_same_trace() {
    let (traces, mut heard) = way(0.0, 2);
    let parent = came_with(true);
    let request = traces.begin(Some(parent), true).unwrap();
    let part = request.part();
    part.tell(told());
    request.tell(told());
    let (part, request) = (heard.try_recv().unwrap(), heard.try_recv().unwrap());
    assert_eq!(request.span_context.trace_id().to_bytes(), parent.trace.0);
    assert_eq!(part.span_context.trace_id(), request.span_context.trace_id());
    assert_eq!(request.parent_span_id.to_bytes(), parent.span.0);
    assert_eq!(part.parent_span_id, request.span_context.span_id());
    assert!(request.parent_span_is_remote && !part.parent_span_is_remote);
    let took = request.end_time.duration_since(request.start_time).unwrap();
    assert_eq!(took, Duration::from_millis(5));
}

#[test]
fn what_is_not_told_here_is_passed_on_as_it_came() {
    let parent = came_with(true);
    let trace = Trace::passing(parent);
    trace.tell(told());
    assert_eq!(trace.part().header(), parent.to_string());
}

#[test]
fn nobody_waits_for_a_collector_that_is_slow() {
    let (traces, _heard) = way(1.0, 1);
    let request = traces.begin(None, false).unwrap();
    request.tell(told());
    request.tell(told());
    assert_eq!(traces.0.metrics.spans.with_label_values(&["dropped"]).get(), 1);
}

#[test]
fn a_log_span_carries_it_for_all_work_inside() {
    let trace = Trace::passing(came_with(false));
    tracing::subscriber::with_default(
        Registry::default().with(tracing_subscriber::fmt::layer()),
        || {
            assert!(current().is_none());
            let request = tracing::error_span!("request");
            trace.carry(&request);
            let _request = request.enter();
            let _inside = tracing::error_span!("inside").entered();
            assert_eq!(current().unwrap().id(), trace.id());
        },
    );
}
