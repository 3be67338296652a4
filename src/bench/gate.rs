//! `--fail-on`: what counts as too slow, and the judgement. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::stats::{self, Samples, Statistic};
use crate::error::{Error, Result};
use crate::output::text;

/// `encode.p99>+10%`: one rule. Its first word names a case and, where that has several stages, its main one; `pipeline.convert.p99`
/// names another stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub case: String,
    pub stage: String,
    pub statistic: Statistic,
    pub limit: Limit,
}

/// Beyond what it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many % more than the baseline.
    Percent(f64),
    /// So many ms more than the baseline.
    More(f64),
    /// ms, whatever the baseline.
    Absolute(f64),
}

impl Rule {
    /// Whether it needs a baseline.
    pub fn compares(&self) -> bool {
        !matches!(self.limit, Limit::Absolute(_))
    }

    /// Whether samples break it: both their statistic is beyond the limit, and it is not by chance. A change counts as real where
    /// its interval leaves "no change" out; an absolute limit is broken where the whole interval is beyond it.
    pub fn judge(&self, old: Option<Samples>, new: Samples) -> Option<Judged> {
        if new.us.is_empty() || old.is_some_and(|old| old.us.is_empty()) {
            return None;
        }
        let (value, limit, interval, beyond, certain) = match self.limit {
            Limit::Absolute(limit) => {
                let value = stats::Summary::of(new.us)?.get(self.statistic);
                let interval = stats::spread(self.statistic, new);
                (value, limit, interval, value > limit, interval.low > limit)
            }
            Limit::Percent(percent) => {
                let got = stats::compare(self.statistic, old?, new);
                let (ratio, interval) = (got.ratio?, got.ratio_interval?);
                let limit = 1.0 + percent / 100.0;
                (ratio, limit, interval, ratio > limit, interval.low > 1.0)
            }
            Limit::More(more) => {
                let got = stats::compare(self.statistic, old?, new);
                (
                    got.difference,
                    more,
                    got.difference_interval,
                    got.difference > more,
                    got.difference_interval.low > 0.0,
                )
            }
        };
        Some(Judged { value, limit, interval, failed: beyond && certain, beyond, certain })
    }
}

/// How samples stand to a rule: ratios for a percentage, else ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judged {
    pub value: f64,
    pub limit: f64,
    pub interval: stats::Interval,
    /// The value is beyond the limit.
    pub beyond: bool,
    /// The interval agrees.
    pub certain: bool,
    pub failed: bool,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.case)?;
        if self.stage != super::main_stage(&self.case) {
            write!(f, ".{}", self.stage)?;
        }
        write!(f, ".{}", self.statistic.name())?;
        match self.limit {
            Limit::Percent(percent) => write!(f, ">+{percent}%"),
            Limit::More(ms) => write!(f, ">+{ms}ms"),
            Limit::Absolute(ms) => write!(f, ">{ms}ms"),
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(rule: &str) -> Result<Rule> {
        let wrong = || {
            Error::usage(format!("'{rule}' is not a rule"))
                .hint("write STAGE.STATISTIC>LIMIT, such as encode.p99>+10%, encode.p99>+0.5ms or encode.p99>8ms")
        };
        let (what, limit) = rule.split_once('>').ok_or_else(wrong)?;
        let words: Vec<&str> = what.trim().split('.').collect();
        let (case, stage, statistic) = match words[..] {
            [case, statistic] => (case, super::main_stage(case), statistic),
            [case, stage, statistic] => (case, stage, statistic),
            _ => return Err(wrong()),
        };
        let stages = super::stages(case);
        if stages.is_empty() {
            return Err(unknown(rule, "case", case, super::Case::ALL.map(|(name, _)| name)));
        }
        if !stages.contains(&stage) {
            return Err(unknown(rule, "stage", stage, stages.iter().copied()));
        }
        let known = Statistic::parse(statistic);
        let names = Statistic::ALL.map(|(name, _)| name);
        let statistic = known.ok_or_else(|| unknown(rule, "statistic", statistic, names))?;
        let limit = limit.trim();
        let number =
            |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(wrong);
        let limit = match (limit.strip_prefix('+'), limit.strip_suffix('%'), limit.strip_suffix("ms")) {
            (Some(more), Some(_), _) => Limit::Percent(number(more.trim_end_matches('%'))?),
            (Some(more), _, Some(_)) => Limit::More(number(more.trim_end_matches("ms"))?),
            (None, None, Some(ms)) => Limit::Absolute(number(ms)?),
            _ => return Err(wrong()),
        };
        Ok(Rule { case: case.into(), stage: stage.into(), statistic, limit })
    }
}

fn unknown<'a>(rule: &str, what: &str, word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Error {
    let hint = match text::nearest(word, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("it is one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Error::usage(format!("'{rule}': there is no {what} '{word}'")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_read_and_written() {
        let got = rule("encode.p99>+10%");
        assert_eq!((got.case.as_str(), got.stage.as_str(), got.statistic), ("encode", "encode", Statistic::P99));
        assert_eq!((got.limit, got.compares()), (Limit::Percent(10.0), true));
        assert_eq!(rule("pipeline.p95 > 20 ms").stage, "total");
        assert_eq!(rule("pipeline.convert.mean>+0.5ms").limit, Limit::More(0.5));
        assert!(!rule("capture.max>8ms").compares());
        for text in ["encode.p99>+10%", "pipeline.p50>20ms", "pipeline.convert.jitter>+0.5ms"] {
            assert_eq!(rule(text).to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for (text, says) in [
            ("encode", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99>10%", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99>+x%", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99>+-3%", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99>nanms", "STAGE.STATISTIC>LIMIT"),
            ("encode.p99>8", "STAGE.STATISTIC>LIMIT"),
            ("a.b.c.d>8ms", "STAGE.STATISTIC>LIMIT"),
            ("encod.p99>8ms", "did you mean 'encode'?"),
            ("encode.p98>8ms", "one of min, mean"),
            ("pipeline.convrt.p99>8ms", "did you mean 'convert'?"),
            ("encode.zebra.p99>8ms", "it is one of"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.hint.as_deref().is_some_and(|hint| hint.contains(says)), "{text}: {error:?}");
        }
    }

    #[test]
    fn both_the_limit_and_the_interval_must_agree() {
        let old: Vec<u64> = (0..200).map(|i| 10_000 + i * 37 % 200).collect();
        let scaled = |by: u64| old.iter().map(|x| x * by / 100).collect::<Vec<_>>();
        let failed = |text: &str, new: &[u64]| rule(text).judge(Some(old[..].into()), new.into()).unwrap();
        assert!(failed("encode.p50>+10%", &scaled(120)).failed);
        let small = failed("encode.p50>+10%", &scaled(105));
        assert!(!small.failed && small.certain && !small.beyond, "real, but small: {small:?}");
        assert!(failed("encode.p50>+1ms", &scaled(120)).failed && !failed("encode.p50>+3ms", &scaled(120)).failed);
        // Three samples of which one is far off say nothing.
        let chance = failed("encode.mean>+10%", &[10_000, 10_000, 16_000]);
        assert!(chance.beyond && !chance.certain && !chance.failed, "{chance:?}");
        let absolute = |limit: &str| rule(limit).judge(None, old[..].into()).unwrap().failed;
        assert!(absolute("encode.p99>10ms") && !absolute("encode.p99>11ms"));
        assert_eq!(rule("encode.p50>+10%").judge(None, old[..].into()), None, "nothing to compare with");
        assert_eq!(rule("encode.p50>8ms").judge(None, Samples::from(&[][..])), None);
    }
}
