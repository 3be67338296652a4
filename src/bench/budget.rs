//! What each stage may take, and how a run stands to it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Case;
use super::report::{Row, Size};
use crate::error::{Error, Result};
use crate::output::text;

/// What a stage may take: its 95th percentile is to be below.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    pub stage: &'static str,
    /// ms.
    pub ms: f64,
}

/// What a stage may take where nobody says otherwise, ms (a picture is on the screen within 20), and the case that measures it.
const DEFAULTS: [(&str, f64, Option<Case>); 5] = [
    ("capture", 2.0, Some(Case::Capture)),
    ("encode", 3.0, Some(Case::Encode)),
    ("network", 10.0, Some(Case::Network)),
    ("decode", 5.0, Some(Case::Decode)),
    ("total", 20.0, Some(Case::Pipeline)),
];

impl Target {
    /// The defaults, and over them what is asked for.
    pub fn all(asked: &[Target]) -> Vec<Target> {
        let ms = |stage, ms| asked.iter().rfind(|target| target.stage == stage).map_or(ms, |target| target.ms);
        DEFAULTS.into_iter().map(|(stage, default, _)| Target { stage, ms: ms(stage, default) }).collect()
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(target: &str) -> Result<Target> {
        let wrong =
            || Error::usage(format!("'{target}' is not a target")).hint("write STAGE=MILLISECONDS, such as encode=3");
        let (stage, ms) = target.split_once(['=', ':']).ok_or_else(wrong)?;
        let ms = ms.trim();
        let ms = ms.strip_suffix("ms").unwrap_or(ms).trim_end().parse::<f64>().map_err(|_| wrong())?;
        let (stage, known) = (stage.trim(), DEFAULTS.map(|(stage, ..)| stage));
        let Some(stage) = known.into_iter().find(|known| *known == stage) else {
            let hint = match text::nearest(stage, known) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("it is one of {}", known.join(", ")),
            };
            return Err(Error::usage(format!("'{target}': there is no stage '{stage}' in the budget")).hint(hint));
        };
        if !(ms.is_finite() && ms > 0.0) {
            return Err(wrong());
        }
        Ok(Target { stage, ms })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.stage, self.ms)
    }
}

/// How one row stands to a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    pub stage: &'static str,
    pub target_ms: f64,
    /// The row that was measured; null where none was.
    pub row: Option<String>,
    pub size: Option<Size>,
    /// Its 95th percentile.
    pub p95_ms: Option<f64>,
    pub met: Option<bool>,
    /// How far it lies below the target; negative: beyond it.
    pub spare_ms: Option<f64>,
}

/// How all rows stand to all targets. Reference decoders, which no viewer uses, are not held to it.
pub fn judge(targets: &[Target], rows: &[Row]) -> Vec<Held> {
    let mut all = Vec::new();
    for target in targets {
        let case = DEFAULTS.iter().find(|(stage, ..)| *stage == target.stage).and_then(|(.., case)| *case);
        let none = Held {
            stage: target.stage,
            target_ms: target.ms,
            row: None,
            size: None,
            p95_ms: None,
            met: None,
            spare_ms: None,
        };
        let rows = rows.iter().filter(|row| Some(row.case) == case && row.backend.as_deref() != Some("ffmpeg"));
        let held = rows.filter_map(|row| {
            let p95 = row.stage(target.stage)?.summary.p95;
            Some(Held {
                row: Some(row.title()),
                size: row.size,
                p95_ms: Some(p95),
                met: Some(p95 < target.ms),
                spare_ms: Some(target.ms - p95),
                ..none.clone()
            })
        });
        let before = all.len();
        all.extend(held);
        if all.len() == before {
            all.push(none);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_refused() {
        assert_eq!("encode=3".parse::<Target>().unwrap(), Target { stage: "encode", ms: 3.0 });
        assert_eq!("total: 16.6 ms".parse::<Target>().unwrap().to_string(), "total=16.6");
        for (text, hint) in [
            ("encode", "STAGE=MILLISECONDS"),
            ("encode=fast", "STAGE="),
            ("encode=0", "STAGE="),
            ("encode=nan", "STAGE="),
            ("encod=3", "did you mean 'encode'?"),
            ("x=3", "one of capture"),
        ] {
            assert!(text.parse::<Target>().unwrap_err().hint.unwrap().contains(hint), "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_stands_over_the_defaults() {
        let got = Target::all(&[Target { stage: "encode", ms: 7.0 }]);
        let ms: Vec<f64> = got.iter().map(|target| target.ms).collect();
        assert_eq!(ms, [2.0, 7.0, 10.0, 5.0, 20.0]);
    }

    #[test]
    fn a_target_is_met_or_missed_or_not_measured() {
        let row = |case, stage, backend: &str, ms: u64| {
            let mut row = Row::new(case, None);
            row.backend = Some(backend.into());
            row.stages = vec![super::super::report::Measured::new(stage, &[], &[ms * 1000; 10], 30.0).unwrap()];
            row
        };
        let rows = [
            row(Case::Encode, "encode", "openh264", 4),
            row(Case::Decode, "decode", "openh264", 4),
            row(Case::Decode, "decode", "ffmpeg", 9),
            row(Case::Pipeline, "encode", "openh264", 1),
        ];
        let held = judge(&Target::all(&[]), &rows);
        let told: Vec<_> = held.iter().map(|held| (held.stage, held.met, held.spare_ms)).collect();
        let expected = [
            ("capture", None, None),
            ("encode", Some(false), Some(-1.0)),
            ("network", None, None),
            ("decode", Some(true), Some(1.0)),
            ("total", None, None),
        ];
        assert_eq!(told, expected);
    }
}
