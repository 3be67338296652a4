//! The page in a real browser, end to end: each test is a scenario of `tests/browser/`, run against this build.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use standin::Scene;

#[path = "standin/mod.rs"]
mod standin;

fn scenario(name: &str, environment: &[(&str, String)]) {
    let root = env!("CARGO_MANIFEST_DIR");
    let status = Command::new("python3")
        .args(["-B", "tests/browser/run.py", name])
        .current_dir(root)
        .env("GSK", env!("CARGO_BIN_EXE_gsk"))
        .envs(environment.iter().cloned())
        .env("GSK_SCRATCH", concat!(env!("CARGO_TARGET_TMPDIR"), "/browser"))
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{name}: {status}"),
        Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
            println!("{name}: skipped: python3 cannot be run: {error}");
        }
        Err(error) => panic!("{name}: python3 cannot be run: {error}"),
    }
}

/// With a driver for the workers.
fn scenario_on(scene: &Scene, name: &str) {
    let home = tempfile::tempdir().unwrap();
    let driver = scene.environment().into_iter().map(|(name, value)| (name, value.into_string().unwrap()));
    let leases = ("GSK_LEASE_DIR", home.path().join("leases").to_str().unwrap().to_string());
    let driver: BTreeMap<_, _> = driver.chain([leases]).collect();
    scenario(name, &[("GSK_TEST_DRIVER", serde_json::to_string(&driver).unwrap())]);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            scenario(stringify!($name), &[]);
        })*

        /// On a machine that bears one encoder session.
        #[test]
        fn no_slot() {
            scenario_on(&Scene::geforce(1), "no_slot");
        }

        /// On a machine whose board encodes them all.
        #[test]
        fn codecs() {
            scenario_on(&Scene::rtx(), "codecs");
        }

        /// A scenario that nothing runs would be no test.
        #[test]
        fn every_scenario_is_run() {
            let mut ours = [$(stringify!($name)),*, "no_slot", "codecs"];
            ours.sort_unstable();
            let output = Command::new("python3").args(["-B", "tests/browser/run.py"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
            let Ok(output) = output else { return };
            let listed = String::from_utf8(output.stderr).unwrap();
            assert_eq!(listed.trim(), format!("scenarios: {}", ours.join(" ")));
        }
    };
}

scenarios! {
    webcodecs mse mjpeg late joins lasting_mse colours bare_mjpeg overflow still
    drag touch quality view_only
    restart program_fails program_again truncated hang text waiting full token ways decoder_fails slow_h264
    phone hidden
}
