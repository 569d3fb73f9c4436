//! A bar chart as SVG, legible on light and on dark pages: its colours are of middling lightness,
//! and its page is transparent.

use std::fmt::Write as _;

/// One bar for each case, against a line at 1.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Below the title.
    pub(crate) subtitle: String,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar>,
}

/// A bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Its length: a ratio.
    pub(crate) value: f64,
    /// What it must not exceed, as a mark across it.
    pub(crate) limit: f64,
}

const WIDTH: f64 = 760.0;
const TOP: f64 = 70.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
/// Where bars begin, and how long they may be.
const LEFT: f64 = 250.0;
const LENGTH: f64 = 430.0;

const TEXT: &str = "#7d8590";
const BELOW: &str = "#2f9e6e";
const ABOVE: &str = "#d9653b";
const LINE: &str = "#8b949e";

impl Chart {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let longest = self.bars.iter().flat_map(|bar| [bar.value, bar.limit]).fold(1.0, f64::max);
        let scale = LENGTH / longest;
        let height = TOP + ROW * self.bars.len() as f64 + 34.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"{TEXT}\">\n\
             <title>{title}</title>\n\
             <text x=\"10\" y=\"24\" font-size=\"16\" font-weight=\"600\">{title}</text>\n\
             <text x=\"10\" y=\"46\">{subtitle}</text>\n",
            title = escaped(&self.title),
            subtitle = escaped(&self.subtitle),
        );
        for (nth, bar) in self.bars.iter().enumerate() {
            let y = TOP + ROW * nth as f64;
            bar.draw(&mut svg, y, scale);
        }
        let (one, bottom) = (LEFT + scale, height - 28.0);
        let _ = write!(
            svg,
            "<line x1=\"{one:.1}\" y1=\"{top}\" x2=\"{one:.1}\" y2=\"{bottom}\" stroke=\"{LINE}\" \
             stroke-dasharray=\"4 3\"/>\n\
             <text x=\"{one:.1}\" y=\"{caption}\" text-anchor=\"middle\">1.0</text>\n</svg>\n",
            top = TOP - 8.0,
            caption = height - 12.0,
        );
        svg
    }
}

impl Bar {
    fn draw(&self, svg: &mut String, y: f64, scale: f64) {
        let colour = if self.value <= self.limit { BELOW } else { ABOVE };
        let (length, middle) = (self.value * scale, y + BAR * 0.8);
        let _ = write!(
            svg,
            "<text x=\"{label_x}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" \
             fill=\"{colour}\"/>\n\
             <line x1=\"{limit:.1}\" y1=\"{mark_top}\" x2=\"{limit:.1}\" y2=\"{mark_end}\" \
             stroke=\"{LINE}\" stroke-width=\"2\"/>\n\
             <text x=\"{value_x:.1}\" y=\"{middle:.1}\">{value:.2}</text>\n",
            label_x = LEFT - 10.0,
            label = escaped(&self.label),
            limit = LEFT + self.limit * scale,
            mark_top = y - 2.0,
            mark_end = y + BAR + 2.0,
            value_x = LEFT + self.value.max(self.limit) * scale + 8.0,
            value = self.value,
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, limit: 0.95 };
        let bars = vec![bar("a < b", 0.5), bar("c", 2.0)];
        Chart { title: "CPU & time".to_owned(), subtitle: String::new(), bars }
    }

    #[test]
    fn the_longest_bar_fits_and_the_others_are_in_proportion() {
        let svg = chart().svg();
        assert!(svg.contains("width=\"430.0\"") && svg.contains("width=\"107.5\""), "{svg}");
    }

    #[test]
    fn texts_are_escaped_and_every_element_is_closed() {
        let svg = chart().svg();
        assert!(svg.contains("a &lt; b") && svg.contains("CPU &amp; time"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_bar_beyond_its_limit_has_another_colour() {
        let svg = chart().svg();
        assert_eq!((svg.matches(BELOW).count(), svg.matches(ABOVE).count()), (1, 1));
    }
}
