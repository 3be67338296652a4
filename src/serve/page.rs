//! The viewer page: one document with everything in it, under a policy that lets nothing else in.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::pipeline::encode::Codec;

const PAGE: &str = include_str!("web/page.html");

/// What the page's marks stand for: the mark, the element's start without its nonce, its text, its end.
const PARTS: [(&str, &str, &str, &str); 9] = [
    ("<!--style-->", "<style", include_str!("web/style.css"), "</style>"),
    ("<!--worker-->", "<script type=\"text/plain\" id=\"worker\"", include_str!("web/worker.js"), "</script>"),
    ("<!--players-->", "<script", include_str!("web/players.js"), "</script>"),
    ("<!--input-->", "<script", include_str!("web/input.js"), "</script>"),
    ("<!--quality-->", "<script", include_str!("web/quality.js"), "</script>"),
    ("<!--codec-->", "<script", include_str!("web/codec.js"), "</script>"),
    ("<!--measure-->", "<script", include_str!("web/measure.js"), "</script>"),
    ("<!--facts-->", "<script", include_str!("web/facts.js"), "</script>"),
    ("<!--app-->", "<script", include_str!("web/app.js"), "</script>"),
];

/// The page of an instance, which asks for the codec where it can. The nonce, new with each answer, is what lets the page's own scripts and style run.
pub fn page(instance: &str, codec: Codec) -> Result<Response, getrandom::Error> {
    let nonce = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' blob:; worker-src blob:; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    );
    let filled = PAGE.replace("{{title}}", &escape(instance)).replace("{{codec}}", codec.name());
    let html = PARTS.iter().fold(filled, |html, (mark, start, text, end)| {
        html.replace(mark, &format!("{start} nonce=\"{nonce}\">{text}{end}"))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, html).into_response())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_there_once_and_no_part_ends_its_own_element() {
        for (mark, _, text, end) in PARTS {
            assert_eq!(PAGE.matches(mark).count(), 1, "{mark}");
            assert!(!text.contains(end.trim_end_matches('>')), "{mark}");
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("<b>&\""), "&lt;b&gt;&amp;&quot;");
    }
}
