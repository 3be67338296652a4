use super::*;

const A: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
const B: &str = "GPU-8932f937-0000-4106-c12f-20bd9faed9f6";
const INSTANCE: &str = "c7384736-a75d-5afc-978f-d2f1294409fd";

fn gpu(index: u32, uuid: &str, bus: u8) -> Gpu {
    Gpu {
        index,
        uuid: Some(uuid.into()),
        pci: Some(format!("00000000:{bus:02X}:00.0")),
        name: Some("NVIDIA RTX".into()),
        ..Gpu::default()
    }
}

/// In NVML's order the board of the higher bus number comes first: no index here is CUDA's.
fn machine() -> Inventory {
    Inventory { driver: Driver::Ready, gpus: vec![gpu(0, B, 0x65), gpu(1, A, 0x17)], ..Inventory::default() }
}

const CUDA: [Shown; 2] =
    [Shown { name: "a", uuid: A, pci: "0000:17:00.0" }, Shown { name: "b", uuid: B, pci: "0000:65:00.0" }];

fn choice(text: &str) -> Choice {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn names_of_gpus() {
    for (text, is) in [
        ("0", "0"),
        ("12", "12"),
        ("GPU-8932F937", "GPU-8932f937"),
        (A, A),
        ("MIG-C7384736-a75d-5afc-978f-d2f1294409fd", "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"),
        ("65:00.0", "00000000:65:00.0"),
        ("65:00", "00000000:65:00.0"),
        ("0000:6A:00.0", "00000000:6a:00.0"),
        ("00000001:6A:1f.7", "00000001:6a:1f.7"),
    ] {
        assert_eq!(choice(text).to_string(), is, "{text}");
        assert_eq!(choice(&choice(text).to_string()), choice(text), "{text}");
    }
    for text in [
        "",
        "-1",
        "first",
        "GPU-",
        "GPU-xyz",
        "MIG-",
        "MIG-GPU-89/a/0",
        "MIG-1G.10GB",
        "1:2:3:4",
        "65:",
        "165:00.0",
        ":1",
    ] {
        let error = text.parse::<Choice>().unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{text}");
        assert!(error.hint.unwrap().contains("65:00.0"), "{text}");
    }
}

#[test]
fn a_board_is_the_same_in_cuda_whatever_the_numbers() {
    for (text, place) in [
        ("0", 1),
        ("1", 0),
        (A, 0),
        (B, 1),
        ("GPU-8932f937-d", 0),
        ("gpu-8932F937-0", 1),
        ("17:00.0", 0),
        ("00000000:65:00.0", 1),
        ("0000:65:00", 1),
    ] {
        let wanted = Wanted::new(choice(text), &machine()).unwrap();
        assert_eq!(wanted.among(&CUDA, None).unwrap(), place, "{text}");
        assert_eq!(wanted.board(), Some(CUDA[place].uuid), "{text}");
    }
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    for (text, what, says) in [
        ("2", "there is no GPU 2", "GPU 0 (NVIDIA RTX) GPU-8932f937-0"),
        ("GPU-77", "there is no GPU GPU-77", "GPU 1 (NVIDIA RTX)"),
        ("66:00.0", "there is no GPU 00000000:66:00.0", "GPU 0"),
        ("MIG-GPU-77/1/0", "there is no GPU MIG-GPU-77/1/0", "GPU 0"),
        ("GPU-8932f937", "GPU-8932f937 is more than one GPU", A),
    ] {
        let error = Wanted::new(choice(text), &machine()).unwrap_err();
        assert_eq!((error.kind, error.what.as_str()), (Kind::Usage, what));
        assert!(error.cause.as_ref().unwrap().contains(says) && error.hint.is_some(), "{error:?}");
    }
    let none = Inventory { driver: Driver::NoGpu, ..Inventory::default() };
    assert_eq!(Wanted::new(choice("0"), &none).unwrap_err().kind, Kind::Missing);
}

#[test]
fn what_cuda_hides_is_refused_with_the_setting_that_shows_it() {
    let refused = |text: &str, shown: &[Shown], visible| {
        Wanted::new(choice(text), &machine()).unwrap().among(shown, visible).unwrap_err()
    };
    // However the list was written, what counts is what CUDA shows.
    for list in ["0", "GPU-8932f937-d", A, "1,7"] {
        let error = refused("0", &CUDA[..1], Some(list));
        assert_eq!(
            (error.kind, error.what.as_str()),
            (Kind::Usage, "CUDA does not show GPU 0 (NVIDIA RTX) to this process")
        );
        assert_eq!(error.cause.unwrap(), format!("CUDA_VISIBLE_DEVICES={list} leaves it out; CUDA shows a ({A})"));
        assert_eq!(error.hint.unwrap(), format!("export CUDA_VISIBLE_DEVICES={B}\nor unset CUDA_VISIBLE_DEVICES"));
    }
    let empty = refused("1", &[], Some(""));
    assert!(empty.cause.unwrap().ends_with("CUDA shows nothing"));
    // It shows it under another number.
    let wanted = Wanted::new(choice("0"), &machine()).unwrap();
    assert_eq!(wanted.among(&CUDA[1..], Some("1")).unwrap(), 0);
    // Nothing of ours hides it.
    let error = refused("0", &CUDA[..1], None);
    assert_eq!(error.kind, Kind::Missing);
    assert!(error.hint.unwrap().contains("--gpus all"));
}

#[test]
fn instances_of_a_divided_board() {
    let divided = Inventory { gpus: vec![Gpu { mig: Some(true), ..gpu(0, A, 0x17) }], ..machine() };
    let uuid = format!("GPU-{INSTANCE}");
    let instance = [Shown { name: "a", uuid: &uuid, pci: "0000:17:00.0" }];
    let (new, old) = (format!("MIG-{INSTANCE}"), format!("MIG-{A}/1/0"));
    let wanted = |text: &str| Wanted::new(choice(text), &divided).unwrap();
    // By its own UUID, by its board, and by the old form where CUDA was given that.
    assert_eq!(wanted(&new).among(&instance, None).unwrap(), 0);
    assert_eq!(wanted(&new[..12]).among(&instance, Some(&new)).unwrap(), 0);
    for board in ["0", A, "17:00.0"] {
        assert_eq!(wanted(board).among(&instance, Some(&new)).unwrap(), 0, "{board}");
    }
    assert_eq!(wanted(&old).among(&instance, Some(&old)).unwrap(), 0);
    // CUDA shows the first instance unless it is told.
    let error = wanted(&old).among(&instance, None).unwrap_err();
    assert_eq!((error.kind, error.hint.unwrap()), (Kind::Usage, format!("export CUDA_VISIBLE_DEVICES={old}")));
    let other = "MIG-11111111-a75d-5afc-978f-d2f1294409fd";
    let error = wanted(other).among(&instance, None).unwrap_err();
    assert!(error.cause.unwrap().contains("the first alone"));
    assert_eq!(error.hint.unwrap(), format!("export CUDA_VISIBLE_DEVICES={other}"));
    let error = wanted(other).among(&instance, Some(&new)).unwrap_err();
    assert!(error.cause.unwrap().contains("leaves it out"));
    // The board as a whole is not what CUDA takes.
    let error = wanted("0").among(&[], Some("1")).unwrap_err();
    assert!(error.hint.unwrap().starts_with("export CUDA_VISIBLE_DEVICES=MIG-…"));
}

#[test]
fn without_nvml_only_what_needs_no_index_is_found() {
    let unknown = Inventory { driver: Driver::Hung, ..Inventory::default() };
    let place =
        |text: &str, shown: &[Shown], visible| Wanted::new(choice(text), &unknown).unwrap().among(shown, visible);
    assert_eq!(place("GPU-8932f937-0", &CUDA, None).unwrap(), 1);
    assert_eq!(place("65:00.0", &CUDA, None).unwrap(), 1);
    assert_eq!(place("0", &CUDA[1..], None).unwrap(), 0, "the only one");
    assert!(place("GPU-8932f937", &CUDA, None).unwrap_err().what.contains("more than one"));
    for (text, shown, visible) in [("0", &CUDA[..], None), ("1", &CUDA[..], None), ("0", &CUDA[..1], Some("1"))] {
        let error = place(text, shown, visible).unwrap_err();
        assert!(error.what.contains("which GPU has index"), "{text}: {error}");
        assert!(error.hint.unwrap().contains("UUID"));
    }
    assert_eq!(place("66:00.0", &CUDA, None).unwrap_err().kind, Kind::Usage);
}
