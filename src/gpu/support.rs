//! The table of boards and of session limits, `support.yaml`, which is compiled in.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::Compute;

/// Both halves of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    limits: Vec<SessionLimit>,
    boards: Vec<Board>,
}

/// How many sessions a driver gives all GeForce boards of a system together.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLimit {
    /// The first driver version for which it holds, such as "550" or "530.41".
    pub from: String,
    pub sessions: u32,
    pub known: Known,
    pub source: String,
}

/// What is known of some boards' encoders.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Patterns of NVML's name for the board without "NVIDIA " before it; `*` stands for anything. Without any, every name
    /// matches.
    #[serde(default)]
    pub names: Vec<String>,
    /// Compute capabilities such as "8.9". Without any, every one matches.
    #[serde(default)]
    pub compute: Vec<String>,
    /// NVENC engines of one GPU; null where only that there are some is known.
    pub engines: Option<u32>,
    /// What they encode.
    pub codecs: Vec<Codec>,
    /// Whether sessions on the board count against the driver's session limit; null where that is not known.
    pub limited: Option<bool>,
    pub known: Known,
    pub source: String,
    /// Names of boards that this row is for; each of them must find this row first.
    pub examples: Vec<String>,
}

/// How a row is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// The source says it of this very board or driver.
    Seen,
    /// Concluded from its family.
    Inferred,
}

/// A codec in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    H264,
    Hevc,
    Av1,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Hevc => "hevc",
            Codec::Av1 => "av1",
        }
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Codec::H264 => "H.264",
            Codec::Hevc => "HEVC",
            Codec::Av1 => "AV1",
        }
    }
}

/// Names in a sentence: "h264 and hevc".
pub fn in_words(codecs: &[Codec]) -> String {
    let names: Vec<_> = codecs.iter().map(|codec| codec.name()).collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        Some((last, _)) => (*last).into(),
        None => "nothing that gsk knows".into(),
    }
}

impl Board {
    /// Whether the board can encode at all.
    pub fn has_encoder(&self) -> bool {
        self.engines != Some(0)
    }

    fn is(&self, name: Option<&str>, compute: Option<Compute>) -> bool {
        let name_fits = self.names.is_empty()
            || name.is_some_and(|name| {
                let name = name.trim().to_ascii_lowercase();
                let name = name.strip_prefix("nvidia ").unwrap_or(&name);
                self.names.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), name))
            });
        let compute_fits = self.compute.is_empty()
            || compute.is_some_and(|compute| self.compute.iter().any(|known| *known == compute.to_string()));
        name_fits && compute_fits
    }
}

impl Table {
    /// The first row that fits. `None`: the board is unknown.
    pub fn board(&self, name: Option<&str>, compute: Option<Compute>) -> Option<&Board> {
        self.boards.iter().find(|board| board.is(name, compute))
    }

    /// The session limit of GeForce boards under a driver. `None` for what is no version.
    pub fn limit(&self, driver_version: &str) -> Option<&SessionLimit> {
        let version = numbers(driver_version)?;
        self.limits.iter().rfind(|limit| numbers(&limit.from).is_some_and(|from| from <= version))
    }
}

/// The table, parsed when it is first needed.
///
/// # Panics
///
/// Never as built: the text is part of the program, and a test parses it.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| serde_yaml::from_str(TEXT).expect("the compiled-in table parses"))
}

const TEXT: &str = include_str!("support.yaml");

/// Whether `text` fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))),
    }
}

/// The numbers of a driver's version: "550.54.14" is 550, 54, 14.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.trim().split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(text: &str) -> Option<Compute> {
        let (major, minor) = text.split_once('.')?;
        Some(Compute { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    #[test]
    fn every_row_is_found_by_its_own_examples_and_says_where_it_comes_from() {
        for row in &table().boards {
            assert!(!row.source.trim().is_empty(), "{row:?}");
            assert!(!row.names.is_empty() || !row.compute.is_empty(), "matches everything: {row:?}");
            assert!(row.compute.iter().all(|text| compute(text).is_some_and(|c| c.to_string() == *text)), "{row:?}");
            assert_eq!(
                row.codecs.is_empty(),
                row.engines == Some(0),
                "codecs without engines, or the reverse: {row:?}"
            );
            assert!(row.engines != Some(0) || row.limited.is_none(), "no engine, yet limited or not: {row:?}");
            assert!(!row.examples.is_empty(), "{row:?}");
            for example in &row.examples {
                let shown = row.compute.first().and_then(|text| compute(text));
                let found = table().board(Some(example), shown);
                assert!(
                    found.is_some_and(|found| std::ptr::eq(found, row)),
                    "{example} finds {found:?} before {row:?}"
                );
            }
        }
    }

    #[test]
    fn every_pattern_is_needed_by_an_example() {
        for row in &table().boards {
            for pattern in &row.names {
                let used = row.examples.iter().any(|example| {
                    let only = Board {
                        names: vec![pattern.clone()],
                        compute: vec![],
                        examples: vec![],
                        source: String::new(),
                        codecs: vec![],
                        ..*row
                    };
                    only.is(Some(example), None)
                });
                assert!(used, "{pattern}");
            }
        }
    }

    #[test]
    fn limits_rise_with_the_drivers_version() {
        let limits = &table().limits;
        for (row, next) in limits.iter().zip(&limits[1..]) {
            assert!(numbers(&row.from).unwrap() < numbers(&next.from).unwrap(), "{row:?} {next:?}");
        }
        assert!(limits.iter().all(|row| row.sessions > 0 && !row.source.trim().is_empty()));
        assert_eq!(numbers(&limits[0].from), Some(vec![0]), "an old driver has a limit too");
    }

    #[test]
    fn the_limit_is_that_of_the_newest_row_not_newer_than_the_driver() {
        let cases = [
            ("390.157", 2),
            ("460.67", 3),
            ("525.60.13", 3),
            ("530.41.03", 5),
            ("535.104.05", 5),
            ("550.54.14", 8),
            ("555.42.02", 8),
            ("591.59", 12),
            ("610.74", 12),
        ];
        for (version, sessions) in cases {
            assert_eq!(table().limit(version).map(|row| row.sessions), Some(sessions), "{version}");
        }
        for nonsense in ["", "abc", "550.x", "550..1", "-1"] {
            assert_eq!(table().limit(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn boards_are_told_apart_by_more_than_their_beginning() {
        let engines = |name: &str| table().board(Some(name), None).map(|row| row.engines);
        // None: unknown. Some(None): an encoder, of unknown number.
        let cases = [
            ("NVIDIA A100-SXM4-80GB", Some(Some(0))),
            ("NVIDIA A10", Some(Some(1))),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", Some(None)),
            ("NVIDIA H200", Some(Some(0))),
            ("nvidia geforce rtx 4090", Some(Some(2))),
            ("GeForce GT 1030", Some(Some(0))),
            ("NVIDIA GeForce RTX 9999", None),
            ("Some other board", None),
            ("", None),
            ("NVIDIA ", None),
        ];
        for (name, expected) in cases {
            assert_eq!(engines(name), expected, "{name}");
        }
        // A new GeForce of a known generation has an encoder, and is limited.
        let newer = table().board(Some("NVIDIA GeForce RTX 5099"), compute("12.0")).unwrap();
        assert_eq!((newer.engines, newer.limited, newer.known), (None, Some(true), Known::Inferred));
        // A die without an encoder is known by its compute capability, whatever the board is called.
        assert_eq!(table().board(Some("NVIDIA CG1"), compute("9.0")).map(|row| row.engines), Some(Some(0)));
        assert_eq!(table().board(None, None), None);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let row = "limits: []\nboards:\n  - {names: [X], engines: 1, codecs: [h264], limited: true, known: seen, source: s, examples: [X]";
        assert!(serde_yaml::from_str::<Table>(&format!("{row}}}\n")).is_ok());
        for more in [", engine: 2", ", known: guessed", ", codecs: [vp9]"] {
            assert!(serde_yaml::from_str::<Table>(&format!("{row}{more}}}\n")).is_err(), "{more}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a100*", "a100", true),
            ("a100*", "a100-sxm4", true),
            ("a10", "a100", false),
            ("*max-q", "rtx max-q", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("a*", "äa", false),
            ("*", "ä", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
