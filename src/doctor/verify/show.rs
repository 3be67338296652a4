//! The answer as tables.

use std::fmt::Display;

use super::{Report, Verdict};
use crate::output::{Show, Table};

fn known<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skip => "skip",
        }
    }
}

impl Show for Report {
    const SCHEMA: &'static str = "gsk.verify-gl";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut checks = self.checks_table();
        if self.checks.iter().any(|check| check.finding.remedy.is_some()) {
            checks = checks.above(self.remedies_table());
        }
        checks.above(self.devices_table()).above(self.capabilities_table())
    }
}

impl Report {
    fn checks_table(&self) -> Table {
        let count = |verdict| self.checks.iter().filter(|check| check.finding.verdict == verdict).count();
        let gpu = if self.nvidia { "" } else { "; no NVIDIA GPU" };
        let heading = format!(
            "Checks: {} passed, {} with a warning, {} failed, {} skipped{gpu}",
            count(Verdict::Pass),
            count(Verdict::Warn),
            count(Verdict::Fail),
            count(Verdict::Skip)
        );
        let mut table = Table::titled("checks", heading, ["check", "verdict", "what", "seen"]);
        for check in &self.checks {
            let finding = &check.finding;
            table.row([
                check.id.name(),
                finding.verdict.word().into(),
                check.title.into(),
                // Why it is no pass, and what was found.
                known(match (&finding.because, &finding.seen) {
                    (Some(because), Some(seen)) => Some(format!("{because} ({seen})")),
                    (because, seen) => because.clone().or(seen.clone()),
                }),
            ]);
        }
        table
    }

    /// Below the checks and not beside them, and never broken: they are to be copied.
    fn remedies_table(&self) -> Table {
        let mut table = Table::titled("remedies", "What to do", ["check", "remedy"]).unbroken();
        for check in &self.checks {
            if let Some(remedy) = &check.finding.remedy {
                table.row([check.id.name(), remedy.clone()]);
            }
        }
        table
    }

    fn devices_table(&self) -> Table {
        let heading = if self.devices.is_empty() { "Devices: none" } else { "Devices: EGL's beside CUDA's" };
        let mut table = Table::titled("devices", heading, ["egl", "egl_kind", "cuda", "name", "uuid", "pci"]);
        for pair in &self.devices {
            table.row([
                known(pair.egl),
                known(pair.kind.as_ref()),
                known(pair.cuda),
                known(pair.name.as_ref()),
                known(pair.uuid.as_ref()),
                known(pair.pci.as_ref()),
            ]);
        }
        table
    }

    fn capabilities_table(&self) -> Table {
        let mut table = Table::titled("capabilities", "What this host can do", ["capability", "usable", "why"]);
        for row in &self.capabilities {
            let usable = match row.usable {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            };
            table.row([row.name.into(), usable.into(), row.why.clone()]);
        }
        table
    }
}
