use super::*;

#[test]
fn a_failure_skips_what_stands_on_it_and_names_itself() {
    let all = wanted(&[]);
    assert_eq!(all, Id::all());
    let mut found: BTreeMap<Id, Finding> = all.iter().map(|&id| (id, Finding::pass("yes"))).collect();
    found.insert(Id::Cuda, Finding::fail("no", "do"));
    let rows = settle(&all, &[Id::Nvdec], found);
    let verdict = |id: Id| rows.iter().find(|row| row.id == id).unwrap().finding.verdict;
    let because = |id: Id| rows.iter().find(|row| row.id == id).unwrap().finding.because.clone().unwrap();
    for id in [Id::EglCuda, Id::GlToCuda, Id::CudaToGl, Id::Cycles, Id::Nvenc, Id::Nvjpeg] {
        assert_eq!((verdict(id), because(id).as_str()), (Verdict::Skip, "cuda failed"), "{id:?}");
    }
    for id in [Id::Driver, Id::EglVendor, Id::EglDevices, Id::Context, Id::Draw] {
        assert_eq!(verdict(id), Verdict::Pass, "{id:?}");
    }
    assert_eq!(because(Id::Nvdec), "left out by --skip");
    let can = capabilities(&rows);
    let usable = |name: &str| can.iter().find(|row| row.name.contains(name)).unwrap().usable;
    assert_eq!((usable("without a window"), usable("in CUDA"), usable("NVDEC")), (Some(true), Some(false), None));
}

#[test]
fn only_brings_what_it_needs() {
    assert_eq!(wanted(&[Id::Draw]), [Id::EglVendor, Id::Context, Id::Draw]);
    assert_eq!(wanted(&[Id::Nvenc]), [Id::Driver, Id::Cuda, Id::Nvenc]);
    for &id in Id::all() {
        assert!(id.needs().iter().all(|&need| need < id), "{id:?} comes after what it needs");
    }
}

#[test]
fn devices_are_matched_by_number_and_never_by_index() {
    let cuda =
        |ordinal, name: &str| CudaDevice { ordinal, name: name.into(), uuid: format!("GPU-{name}"), pci: "p".into() };
    let egl = |index, cuda| EglDevice { index, kind: "device".into(), cuda };
    let row = |pair: &Pair| (pair.egl, pair.cuda, pair.name.clone());
    // EGL lists them the other way round, and a software device besides; CUDA has one that EGL has not.
    let found = pairs(&[egl(0, Some(1)), egl(1, Some(0)), egl(2, None)], &[cuda(0, "a"), cuda(1, "b"), cuda(2, "c")]);
    let rows: Vec<_> = found.iter().map(row).collect();
    let expected = [
        (Some(0), Some(1), Some("b".into())),
        (Some(1), Some(0), Some("a".into())),
        (Some(2), None, None),
        (None, Some(2), Some("c".into())),
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        Exports::of(&found[1]).lines(),
        ["export CUDA_VISIBLE_DEVICES=GPU-a", "export EGL_VISIBLE_DEVICES=1", "export MUJOCO_EGL_DEVICE_ID=1"]
    );
    assert_eq!(Exports::of(&found[3]).lines(), ["export CUDA_VISIBLE_DEVICES=GPU-c"]);
    // A device that CUDA_VISIBLE_DEVICES hides has a number that CUDA's list lacks.
    assert_eq!(row(&pairs(&[egl(0, Some(5))], &[])[0]), (Some(0), None, None));
    assert!(pairs(&[], &[]).is_empty());
}
