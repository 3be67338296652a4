//! A small writer of SVG, readable on light and dark grounds, and the scales of axes.

use std::fmt::Write;

/// Colours by class, for pictures that stand alone and for those in a page.
pub const STYLE: &str = "\
svg{--ground:#ffffff;--ink:#1f2328;--faint:#656d76;--grid:#d8dee4;--line:#0969da;--far:#cf222e}
@media (prefers-color-scheme:dark){svg{--ground:#0d1117;--ink:#e6edf3;--faint:#9198a1;--grid:#30363d;--line:#58a6ff;--far:#ff7b72}}
svg text{font-family:system-ui,sans-serif;font-size:12px;fill:var(--ink)}
svg .title{font-size:15px;font-weight:600}svg .head{font-size:20px;font-weight:600}
svg .faint{fill:var(--faint)}svg text.far{fill:var(--far)}svg .ground{fill:var(--ground)}
svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--faint);stroke-width:1}
svg .dot{fill:var(--line);fill-opacity:.75}svg .far{fill:var(--far)}svg .bar{fill:var(--line);fill-opacity:.55}
svg .trace{fill:none;stroke:var(--line);stroke-width:1;stroke-opacity:.45}
svg .mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3;stroke-opacity:.65}
svg .own{stroke:var(--ink);stroke-width:2}
svg .capture{fill:#0072b2}svg .wait{fill:#8a8f98}svg .convert{fill:#e69f00}svg .encode{fill:#d55e00}svg .publish{fill:#009e73}
";

/// Text as it may stand in SVG and HTML.
pub fn escape(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => clean += "&amp;",
            '<' => clean += "&lt;",
            '>' => clean += "&gt;",
            '"' => clean += "&quot;",
            '\'' => clean += "&#39;",
            // XML has no way to write them.
            c if c.is_control() && c != '\n' => {}
            c => clean.push(c),
        }
    }
    clean
}

/// Where text stands to its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture under way; all measures are in its pixels, from the left top.
#[derive(Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.put(format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#));
    }

    /// Text that runs upwards.
    pub fn text_up(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.put(format_args!(
            r#"<text transform="translate({x:.1} {y:.1}) rotate(-90)" text-anchor="middle" class="faint">{text}</text>"#
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#));
    }

    /// With a tip that a browser shows under the pointer.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str, tip: &str) {
        let tip = escape(tip);
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"><title>{tip}</title></rect>"#
        ));
    }

    pub fn dot(&mut self, x: f64, y: f64, class: &str, tip: &str) {
        let tip = escape(tip);
        self.put(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="2" class="{class}"><title>{tip}</title></circle>"#
        ));
    }

    pub fn path(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str) {
        let mut d = String::new();
        for (x, y) in points {
            let step = if d.is_empty() { 'M' } else { 'L' };
            let _ = write!(d, "{step}{x:.1} {y:.1}");
        }
        self.put(format_args!(r#"<path d="{d}" class="{class}"/>"#));
    }

    fn put(&mut self, element: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// As an element that stands alone or in a page, named for those who cannot see it.
    pub fn done(self, width: f64, height: f64, name: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n{}</svg>\n",
            escape(name),
            self.body
        )
    }
}

/// A linear scale from values to pixels, 0 at its beginning.
#[derive(Clone, Copy)]
pub struct Scale {
    pub from: f64,
    pub to: f64,
    pub top: f64,
    step: f64,
}

impl Scale {
    /// Up to at least `most`, in round steps, at most `ticks` of them.
    pub fn new(from: f64, to: f64, most: f64, ticks: f64) -> Scale {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let rough = most / ticks;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999).unwrap_or(rough);
        Scale { from, to, top: (most / step).ceil() * step, step }
    }

    pub fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.top).clamp(0.0, 1.0)
    }

    /// Round values, and how they are written.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let (step, count) = (self.step, (self.top / self.step).round() as usize);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        (0..=count).map(move |n| (n as f64 * step, format!("{:.digits$}", n as f64 * step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_steps() {
        let ticks = |most| Scale::new(0.0, 100.0, most, 5.0).ticks().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(ticks(9.3), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(ticks(0.21), ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25"]);
        assert_eq!(ticks(0.0).last().unwrap(), "1.0", "nothing to show is no reason to fail");
        let scale = Scale::new(200.0, 0.0, 10.0, 5.0);
        assert_eq!((scale.at(0.0), scale.at(5.0), scale.at(99.0)), (200.0, 100.0, 0.0));
    }

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(escape("<b>\"a\" & 'c'\u{1b}"), "&lt;b&gt;&quot;a&quot; &amp; &#39;c&#39;");
    }
}
