//! Layers against a small struct of settings.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::file::File;
use super::*;

#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
struct Kiln {
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    heat: Option<u32>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    r#loop: Option<bool>,
    #[arg(long, value_enum)]
    glaze: Option<crate::output::Color>,
    #[arg(long, value_delimiter = ',')]
    shelf: Option<Vec<String>>,
    #[arg(long)]
    fuel: Option<String>,
    #[arg(last = true)]
    stoker: Option<Vec<String>>,
}

impl Keys for Kiln {
    const SECTION: Option<&'static str> = Some("kiln");
    const GUARDED: &'static [&'static str] = &["stoker"];
    const SECRETS: &'static [&'static str] = &["recipe"];
    const ALTERNATIVES: &'static [&'static str] = &["fuel", "stoker"];

    fn defaults() -> Kiln {
        Kiln { heat: Some(20), fuel: Some("wood".into()), ..Kiln::default() }
    }
}

fn known() -> Known {
    Known::default().with::<Kiln>().unwrap()
}

/// Layers of these variables and files, of which the first is found and the second the user's.
fn layers(variables: &[(&str, &str)], found: &str, users: &str) -> Layers {
    let environment = variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect();
    let mut layers = Layers::from(environment, Path::new("/nowhere"), None, known()).unwrap();
    layers.files = vec![
        File::parse("./gsk.yaml".into(), found.into(), false).unwrap(),
        File::parse("/home/gsk.yaml".into(), users.into(), true).unwrap(),
    ];
    layers
}

fn refused(variables: &[(&str, &str)], found: &str) -> Error {
    resolve(&Kiln::default(), &layers(variables, found, "")).unwrap_err()
}

#[test]
fn each_layer_outranks_those_below() {
    let flags = Kiln { heat: Some(1), ..Kiln::default() };
    let env = [("GSK_HEAT", "2"), ("GSK_GLAZE", "always")];
    let (found, users) =
        ("kiln:\n  heat: 3\n  glaze: never\n  loop: true\n", "kiln: {heat: 4, loop: false, shelf: [a, b]}");
    let got = resolve(&flags, &layers(&env, found, users)).unwrap();
    assert_eq!((got.values.heat, got.origin("heat").to_string()), (Some(1), "--heat".into()));
    assert_eq!(got.origin("glaze").to_string(), "GSK_GLAZE");
    assert_eq!((got.values.r#loop, got.origin("loop").to_string()), (Some(true), "./gsk.yaml:4".into()));
    assert_eq!(got.values.shelf, Some(vec!["a".to_string(), "b".into()]));
    assert_eq!(got.origin("shelf").to_string(), "/home/gsk.yaml:1");
    assert_eq!((got.values.fuel.as_deref(), got.origin("fuel")), (Some("wood"), &Origin::Default));

    let next = resolve(&Kiln::default(), &layers(&env, found, users)).unwrap();
    assert_eq!(next.values.heat, Some(2));
    let next = resolve(&Kiln::default(), &layers(&[], found, users)).unwrap();
    assert_eq!(next.values.heat, Some(3));
    let next = resolve(&Kiln::default(), &layers(&[], "", users)).unwrap();
    assert_eq!(next.values.heat, Some(4));
    let next = resolve(&Kiln::default(), &layers(&[], "", "")).unwrap();
    assert_eq!(next.values.heat, Some(20));
}

#[test]
fn faults_are_told_with_place_cause_and_hint() {
    let cases = [
        ("kiln:\n  haet: 3\n", "./gsk.yaml:2:3: unknown key 'haet' in 'kiln'", "", "did you mean 'heat'?"),
        ("kiln:\n  zzz: 3\n", "./gsk.yaml:2:3: unknown key 'zzz'", "", "the keys are heat, loop"),
        ("kiln:\n  heat: hot\n", "./gsk.yaml:2:9: wrong value for 'heat'", "invalid digit", ""),
        ("kiln:\n  heat: 101\n", "./gsk.yaml:2:9: wrong value", "101 is not in 1..=100", ""),
        ("kiln:\n  heat: [1, 2]\n", "./gsk.yaml:2:9: wrong value", "a single value", ""),
        ("kiln:\n  heat: {a: 1}\n", "./gsk.yaml:2:9: wrong value", "a single value", ""),
        (
            "kiln:\n  glaze: alway\n",
            "./gsk.yaml:2:10: wrong value",
            "not one of: auto, always, never",
            "did you mean 'always'?",
        ),
        ("kiln:\n  loop: 3\n", "./gsk.yaml:2:9: wrong value", "not one of: true, false", ""),
        ("kiln:\n  shelf: {a: b}\n", "./gsk.yaml:2:10: wrong value", "a list of words", "shelf: [one, two]"),
        ("kiln: 3\n", "./gsk.yaml:1:7: 'kiln' is not a list of keys", "", "write"),
        ("kiln:\n  1: 3\n", "a key in 'kiln' is not a word", "", ""),
        (
            "kiln:\n  stoker: [sh]\n",
            "./gsk.yaml:2:3: 'stoker' may not be set here",
            "found by itself",
            "--config ./gsk.yaml",
        ),
    ];
    for (text, what, cause, hint) in cases {
        let error = refused(&[], text);
        assert!(error.what.contains(what), "{text}: {error:?}");
        assert!(error.cause.as_deref().unwrap_or("").contains(cause), "{text}: {error:?}");
        assert!(error.hint.as_deref().unwrap_or("").contains(hint), "{text}: {error:?}");
        assert_eq!(error.kind, crate::error::Kind::Usage);
    }
    let error = refused(&[("GSK_HEAT", "hot")], "");
    assert!(error.what.contains("GSK_HEAT: wrong value for 'heat'"), "{error:?}");
}

#[test]
fn a_value_is_judged_even_where_it_is_outranked() {
    assert!(refused(&[("GSK_HEAT", "2")], "kiln: {heat: hot}").what.contains("./gsk.yaml:1:14"));
}

#[test]
fn the_top_level_holds_commands_only() {
    let top = |text: &str| File::parse("f".into(), text.into(), true).unwrap().check_top(&known());
    assert!(top("kiln:\n").is_ok());
    let error = top("kilns: {}\n").unwrap_err();
    assert_eq!(
        (error.what.as_str(), error.hint.as_deref()),
        ("f:1:1: unknown key 'kilns'", Some("did you mean 'kiln'?"))
    );
    assert!(top("heat: 3\n").unwrap_err().hint.unwrap().contains("below 'kiln:'"));
}

#[test]
fn an_alternative_sets_those_below_aside_and_quarrels_with_its_own_layer() {
    let stoked = Kiln { stoker: Some(vec!["sh".into()]), ..Kiln::default() };
    let got = resolve(&stoked, &layers(&[("GSK_FUEL", "gas")], "kiln: {fuel: oil}", "")).unwrap();
    assert_eq!((got.values.fuel, got.values.stoker), (None, Some(vec!["sh".to_string()])));
    let got = resolve(&Kiln::default(), &layers(&[("GSK_FUEL", "gas")], "", "kiln: {stoker: [sh, -c]}")).unwrap();
    assert_eq!((got.values.fuel.as_deref(), got.values.stoker), (Some("gas"), None));
    let both = layers(&[], "", "kiln: {fuel: oil, stoker: [sh]}");
    assert!(resolve(&Kiln::default(), &both).unwrap_err().what.contains("exclude each other"));
}

#[test]
fn empty_variables_and_keys_without_a_value_are_unset() {
    let got =
        resolve(&Kiln::default(), &layers(&[("GSK_HEAT", "")], "kiln:\n  fuel:\n", "kiln: {stoker: []}")).unwrap();
    assert_eq!((got.values.heat, got.values.fuel.as_deref()), (Some(20), Some("wood")));
}

#[test]
fn a_list_in_a_variable_is_split_at_commas() {
    let got = resolve(&Kiln::default(), &layers(&[("GSK_SHELF", "a,b")], "", "")).unwrap();
    assert_eq!(got.values.shelf, Some(vec!["a".to_string(), "b".into()]));
}

#[test]
fn secrets_are_read_and_never_shown() {
    let got = resolve(&Kiln::default(), &layers(&[("GSK_RECIPE", "cobalt")], "", "")).unwrap();
    assert_eq!(got.secret("recipe").unwrap().reveal(), "cobalt");
    let mut report = Report::new(Some("kiln"));
    report.extend(got.settings());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json["values"][6],
        json!({"key": "recipe", "value": "set (hidden)", "layer": "environment", "place": "GSK_RECIPE"})
    );
    assert!(!format!("{got:?}{json}").contains("cobalt"));
}

#[test]
fn a_variable_that_nothing_reads_is_told_where_it_looks_like_one() {
    let layers = layers(&[("GSK_HEATT", "3"), ("GSK_HEAT", "3"), ("GSK_ZZZ", "1"), ("HEATT", "1")], "", "");
    assert_eq!(layers.slips(), ["nothing reads GSK_HEATT; did you mean GSK_HEAT?"]);
}

#[test]
fn the_users_file_is_where_xdg_says() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("home/.config/gsk/gsk.yaml", "kiln: {heat: 7, stoker: [sh]}");
    put("xdg/gsk/gsk.yaml", "kiln: {heat: 8}");
    let heat = |variables: &[(&str, &str)], at: &str, named: Option<&Path>| {
        let environment = variables.iter().map(|(k, v)| (k.to_string(), dir.path().join(v).into_os_string())).collect();
        let layers = Layers::from(environment, &dir.path().join(at), named, known())?;
        Ok::<_, Error>(resolve(&Kiln::default(), &layers)?.values.heat.unwrap())
    };
    assert_eq!(heat(&[("HOME", "home")], "", None).unwrap(), 7);
    assert_eq!(heat(&[("HOME", "home"), ("XDG_CONFIG_HOME", "xdg")], "", None).unwrap(), 8);
    assert_eq!(heat(&[("HOME", "home")], "home/.config/gsk", None).unwrap(), 7, "the user's own file is no stranger");
    assert_eq!(heat(&[], "", None).unwrap(), 20);
    assert!(heat(&[], "home/.config/gsk", None).unwrap_err().what.contains("may not be set here"));
    let named = dir.path().join("home/.config/gsk/gsk.yaml");
    assert_eq!(heat(&[], "", Some(&named)).unwrap(), 7);
    assert!(heat(&[], "", Some(Path::new("/no/such.yaml"))).unwrap_err().what.contains("no such file"));
    std::fs::write(&named, vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(heat(&[], "", Some(&named)).unwrap_err().what.contains("larger than 1 MiB"));
}
