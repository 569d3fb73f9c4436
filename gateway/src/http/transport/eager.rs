//! Requests of an HTTP/2 connection, begun on the spot: what is answered from memory is done then,
//! and costs no task. What has to wait for something becomes a task.

use std::task::{Context, Waker};

use hyper::rt::Executor;

/// How hyper runs the requests of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eager;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Eager {
    fn execute(&self, request: F) {
        let mut request = Box::pin(request);
        // Nobody is to be woken yet: the task asks again.
        if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_is_ready_is_done_on_the_spot_and_the_rest_becomes_a_task() {
        let (done, mut told) = oneshot::channel();
        Eager.execute(async move {
            let _ = done.send(());
        });
        assert_eq!(told.try_recv(), Ok(()));

        let ((go, wait), (done, told)) = (oneshot::channel::<()>(), oneshot::channel());
        Eager.execute(async move {
            let _ = wait.await;
            let _ = done.send(());
        });
        go.send(()).unwrap();
        assert_eq!(told.await, Ok(()));
    }
}
