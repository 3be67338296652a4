//! Text from outside on its way to a terminal, and words that were nearly right.

/// Makes outside text fit for one line of a terminal: escape sequences, control and direction-changing characters
/// are dropped, and line breaks and tabs become spaces.
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => clean.push(' '),
            '\u{1b}' => skip_sequence(&mut rest),
            c if c.is_control() || turns_direction(c) => {}
            c => clean.push(c),
        }
    }
    clean
}

/// [`sanitise`] line by line: what remains of the text's shape are its line breaks.
pub fn sanitise_lines(text: &str) -> String {
    text.split('\n').map(sanitise).collect::<Vec<_>>().join("\n")
}

/// Skips what follows ESC: `[ … letter`, `] … BEL or ESC \`, or a single character.
fn skip_sequence(rest: &mut std::iter::Peekable<std::str::Chars>) {
    match rest.next() {
        Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{1b}' && rest.next_if_eq(&'\\').is_some() {
                    break;
                }
            }
        }
        _ => {}
    }
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The candidate that `word` was most likely meant to be, if any is near enough to suggest.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near =
        candidates.into_iter().map(|c| (strsim::jaro_winkler(word, c), c)).filter(|(nearness, _)| *nearness > 0.84);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let cases = [
            ("plain ünï 画", "plain ünï 画"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("a\u{1b}cb", "ab"),
            ("bell\u{7} back\u{8} c1\u{9b}31m", "bell back c131m"),
            ("line\nbreak\ttab\r", "line break tab"),
            ("\u{202e}evil", "evil"),
            ("\u{1b}]never ends", ""),
            ("\u{1b}", ""),
        ];
        for (from, to) in cases {
            assert_eq!(sanitise(from), to, "{from:?}");
        }
        assert_eq!(sanitise_lines("a\u{1b}[1m\nb\r\n"), "a\nb\n");
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["listen", "fps", "bitrate", "max_viewers", "token_file"];
        let cases = [
            ("bit_rate", Some("bitrate")),
            ("max-viewers", Some("max_viewers")),
            ("lisen", Some("listen")),
            ("token", Some("token_file")),
            ("zebra", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }
}
