//! gsk's kernels, run by the stand-in, against the standards' formulas; and modules and launches that are refused.

use std::ptr;

use cudarc::driver::sys::{CUfunction, CUstream};

use crate::child;
use crate::device::{Code, Memory, PRODUCT, PTX, context, cuda, function, launch, load, parameter, stream};
use crate::standin::{Board, Scene};

/// As the kernels take it: weights of R, G and B in units of 1/65536.
#[repr(C)]
#[derive(Clone, Copy)]
struct Matrix {
    y: [i32; 3],
    u: [i32; 3],
    v: [i32; 3],
    y_offset: i32,
}

/// A colour space by its standard: the luma weights of red and blue, and how many steps luma and chroma have.
#[derive(Clone, Copy)]
struct Space {
    red: f64,
    blue: f64,
    offset: f64,
    luma: f64,
    chroma: f64,
}

/// ITU-R BT.709-6, items 3.2 to 3.4.
const BT709_LIMITED: Space = Space { red: 0.2126, blue: 0.0722, offset: 16.0, luma: 219.0, chroma: 224.0 };
/// JFIF 1.02, page 3.
const BT601_FULL: Space = Space { red: 0.299, blue: 0.114, offset: 0.0, luma: 255.0, chroma: 255.0 };

impl Space {
    /// Y, U and V of a colour, not rounded.
    fn of(&self, [r, g, b]: [f64; 3]) -> [f64; 3] {
        let [r, g, b] = [r / 255.0, g / 255.0, b / 255.0];
        let y = self.red * r + (1.0 - self.red - self.blue) * g + self.blue * b;
        let chroma = |colour: f64, weight: f64| 128.0 + self.chroma * (colour - y) / (2.0 * (1.0 - weight));
        [self.offset + self.luma * y, chroma(b, self.blue), chroma(r, self.red)].map(|value| value.clamp(0.0, 255.0))
    }

    fn matrix(&self) -> Matrix {
        // A weight is what the colour alone, at its largest, adds to black.
        let black = Space { offset: 128.0, ..*self }.of([0.0; 3]);
        let weight = |colour: usize, part: usize| {
            let mut one = [0.0; 3];
            one[colour] = 1.0;
            let wide = Space { offset: 128.0, ..*self }.of(one);
            ((wide[part] - black[part]) * 65536.0).round() as i32
        };
        let row = |part| [weight(0, part), weight(1, part), weight(2, part)];
        Matrix { y: row(0), u: row(1), v: row(2), y_offset: self.offset as i32 }
    }
}

/// Rows of RGBA, `pitch` bytes each: noise, with black, white and the pure colours among it.
fn picture(pitch: usize, height: usize) -> Vec<u8> {
    let mut state = 7u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 29 {
            0 => 0,
            1 => 255,
            _ => (state >> 20) as u8,
        }
    });
    noise.take(pitch * height).collect()
}

/// What a picture is to become: planes of exact values, those of chroma in the middle of their four pixels.
fn expected(rgba: &[u8], pitch: usize, (width, height): (usize, usize), space: &Space) -> [Vec<f64>; 3] {
    let pixel = |x: usize, y: usize| -> [f64; 3] { std::array::from_fn(|i| rgba[y * pitch + x * 4 + i].into()) };
    let luma = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| space.of(pixel(x, y))[0]);
    let blocks: Vec<[f64; 3]> = (0..height / 2)
        .flat_map(|y| (0..width / 2).map(move |x| (x * 2, y * 2)))
        .map(|(x, y)| {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            space.of(std::array::from_fn(|i| four.iter().map(|pixel| pixel[i]).sum::<f64>() / 4.0))
        })
        .collect();
    [luma.collect(), blocks.iter().map(|yuv| yuv[1]).collect(), blocks.iter().map(|yuv| yuv[2]).collect()]
}

/// Every `step`-th value, from `first` on, of a plane in memory of 0xcd. What is between the rows is still so.
fn plane(bytes: &[u8], pitch: usize, (width, height): (usize, usize), (first, step): (usize, usize)) -> Vec<u8> {
    for (y, row) in bytes.chunks(pitch).take(height).enumerate() {
        assert!(row[width * step..].iter().all(|&byte| byte == 0xcd), "row {y} has more than its {width}");
    }
    (0..height).flat_map(|y| (0..width).map(move |x| bytes[y * pitch + x * step + first])).collect()
}

fn compare(what: &str, seen: &[u8], expected: &[f64]) {
    assert_eq!(seen.len(), expected.len());
    let error = |(seen, expected): (&u8, &f64)| (f64::from(*seen) - expected).abs();
    let worst = seen.iter().zip(expected).map(error).fold(0.0, f64::max);
    // Half a step of rounding, and what a weight's own rounding may move.
    assert!(worst < 0.51, "{what}: off by {worst}");
}

#[test]
fn pictures_become_what_the_standards_say() {
    let test = "kernels::pictures_become_what_the_standards_say";
    if child::role().is_none() {
        let scene = Scene::rtx();
        child::run(&scene, test, "convert");
        assert_eq!((scene.leaks(), scene.violations()), (vec![], vec![]));
        return;
    }
    let _context = context();
    let module = load(PTX).unwrap();
    let (nv12, i420) = (function(module, "rgba_to_nv12").unwrap(), function(module, "rgba_to_i420").unwrap());
    let stream = stream();
    for (size, pitch, luma_pitch, chroma_pitch) in
        [((16, 16), 64, 16, 8), ((34, 18), 140, 36, 17), ((642, 362), 2580, 644, 331), ((64, 16), 512, 256, 128)]
    {
        for (name, space) in [("BT.709 limited", BT709_LIMITED), ("BT.601 full", BT601_FULL)] {
            let what = format!("{name}, {size:?}");
            let rgba = picture(pitch, size.1);
            let expected = expected(&rgba, pitch, size, &space);
            let frame = Frame { rgba: Memory::of(&rgba), pitch: pitch as u32, size: (size.0 as u32, size.1 as u32) };
            let half = (size.0 / 2, size.1 / 2);

            let out = Memory::new(luma_pitch * size.1 * 3 / 2);
            frame.to_nv12(nv12, out.at, luma_pitch as u32, space.matrix(), stream).unwrap();
            let bytes = out.bytes();
            let (luma, chroma) = bytes.split_at(luma_pitch * size.1);
            compare(&what, &plane(luma, luma_pitch, size, (0, 1)), &expected[0]);
            compare(&what, &plane(chroma, luma_pitch, half, (0, 2)), &expected[1]);
            compare(&what, &plane(chroma, luma_pitch, half, (1, 2)), &expected[2]);

            let luma = Memory::new(luma_pitch * size.1);
            let chroma = [0, 1].map(|_| Memory::new(chroma_pitch * half.1));
            let planes = [luma.at, chroma[0].at, chroma[1].at];
            let pitches = (luma_pitch as u32, chroma_pitch as u32);
            frame.to_i420(i420, planes, pitches, space.matrix(), stream).unwrap();
            compare(&what, &plane(&luma.bytes(), luma_pitch, size, (0, 1)), &expected[0]);
            for (chroma, expected) in chroma.iter().zip(&expected[1..]) {
                compare(&what, &plane(&chroma.bytes(), chroma_pitch, half, (0, 1)), expected);
            }
        }
    }
    cuda!(cuStreamDestroy_v2(stream)).unwrap();
    cuda!(cuModuleUnload(module)).unwrap();
}

struct Frame {
    rgba: Memory,
    pitch: u32,
    size: (u32, u32),
}

impl Frame {
    fn to_nv12(&self, kernel: CUfunction, luma: u64, pitch: u32, matrix: Matrix, stream: CUstream) -> Result<(), Code> {
        let (chroma, (width, height)) = (luma + u64::from(pitch * self.size.1), self.size);
        let parameters = vec![
            parameter(&self.rgba.at),
            parameter(&self.pitch),
            parameter(&luma),
            parameter(&chroma),
            parameter(&pitch),
            parameter(&width),
            parameter(&height),
            parameter(&matrix),
        ];
        launch(kernel, self.size, stream, parameters)
    }

    fn to_i420(
        &self,
        kernel: CUfunction,
        [y, u, v]: [u64; 3],
        (luma_pitch, chroma_pitch): (u32, u32),
        matrix: Matrix,
        stream: CUstream,
    ) -> Result<(), Code> {
        let parameters = vec![
            parameter(&self.rgba.at),
            parameter(&self.pitch),
            parameter(&y),
            parameter(&luma_pitch),
            parameter(&u),
            parameter(&v),
            parameter(&chroma_pitch),
            parameter(&self.size.0),
            parameter(&self.size.1),
            parameter(&matrix),
        ];
        launch(kernel, self.size, stream, parameters)
    }
}

/// A matrix in memory, with the steps from one row and one column to the next.
struct Matrix32 {
    memory: Memory,
    steps: (u32, u32),
}

/// A launch of the product: 16 x 16 threads a block, 2 x 2 values a thread.
fn product(kernel: CUfunction, a: &Matrix32, b: &Matrix32, c: u64, shape: (u32, u32, u32)) -> Result<(), Code> {
    let (rows, columns, depth) = shape;
    let mut parameters = vec![
        parameter(&a.memory.at),
        parameter(&a.steps.0),
        parameter(&a.steps.1),
        parameter(&b.memory.at),
        parameter(&b.steps.0),
        parameter(&b.steps.1),
        parameter(&c),
        parameter(&rows),
        parameter(&columns),
        parameter(&depth),
    ];
    let (grid, null) = ((columns.div_ceil(32), rows.div_ceil(32)), ptr::null_mut());
    let parameters = parameters.as_mut_ptr();
    cuda!(cuLaunchKernel(kernel, grid.0, grid.1, 1, 16, 16, 1, 0, null, parameters, ptr::null_mut()))
}

#[test]
fn products_are_those_of_the_textbook() {
    let test = "kernels::products_are_those_of_the_textbook";
    if child::role().is_none() {
        let scene = Scene::rtx();
        child::run(&scene, test, "product");
        let seen = scene.violations();
        let seen: Vec<_> = seen.iter().map(|one| (one.get("function"), one.number("code"), one.get("what"))).collect();
        assert_eq!(seen, [("cuLaunchKernel", 700, "beyond the context's device memory"); 3]);
        assert_eq!(scene.leaks(), vec![]);
        return;
    }
    let _context = context();
    let module = load(PRODUCT).unwrap();
    let kernel = function(module, "product").unwrap();
    assert_eq!(function(module, "rgba_to_nv12"), Err(500), "that is another module's");
    // Small whole numbers, whose sums are exact.
    let value = |seed: u32, row: u32, column: u32| ((row * 7 + column * 3 + seed) % 11) as f32 - 5.0;
    let matrix = |seed, rows: u32, columns: u32, turned: bool| {
        let (high, wide) = if turned { (columns, rows) } else { (rows, columns) };
        let at = |row, column| if turned { value(seed, column, row) } else { value(seed, row, column) };
        let values = (0..high).flat_map(|row| (0..wide).map(move |column| (row, column)));
        let bytes: Vec<u8> = values.flat_map(|(row, column)| at(row, column).to_ne_bytes()).collect();
        Matrix32 { memory: Memory::of(&bytes), steps: if turned { (1, rows) } else { (columns, 1) } }
    };
    for (rows, columns, depth) in [(1, 1, 1), (2, 2, 3), (3, 5, 7), (33, 31, 20), (64, 10, 64), (65, 97, 2)] {
        for (turn_a, turn_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, b) = (matrix(1, rows, depth, turn_a), matrix(2, depth, columns, turn_b));
            // What lies behind it stays as it is.
            let out = Memory::of(&vec![0xcd; (rows * columns + 4) as usize * 4]);
            product(kernel, &a, &b, out.at, (rows, columns, depth)).unwrap();
            let bytes = out.bytes();
            let (seen, behind) = bytes.split_at((rows * columns) as usize * 4);
            assert!(behind.iter().all(|&byte| byte == 0xcd));
            let seen: Vec<f32> = seen.chunks(4).map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap())).collect();
            let expected = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
            let sum = |(row, column)| (0..depth).map(|k| value(1, row, k) * value(2, k, column)).sum::<f32>();
            assert!(seen == expected.map(sum).collect::<Vec<f32>>(), "{rows}x{columns} of {depth}, {turn_a} {turn_b}");
        }
    }
    // Each of the three, one value short.
    let (a, b) = (matrix(1, 8, 8, false), matrix(2, 8, 8, false));
    let short = || Matrix32 { memory: Memory::new(8 * 8 * 4 - 1), steps: (8, 1) };
    let (whole, lacks) = (Memory::new(8 * 8 * 4), Memory::new(8 * 8 * 4 - 1));
    assert_eq!(product(kernel, &short(), &b, whole.at, (8, 8, 8)), Err(700));
    assert_eq!(product(kernel, &a, &short(), whole.at, (8, 8, 8)), Err(700));
    assert_eq!(product(kernel, &a, &b, lacks.at, (8, 8, 8)), Err(700));
    cuda!(cuModuleUnload(module)).unwrap();
}

#[test]
fn modules_and_launches_are_checked() {
    let test = "kernels::modules_and_launches_are_checked";
    if child::role().is_none() {
        let scene = Scene::rtx();
        child::run(&scene, test, "misuse");
        let seen = scene.violations();
        let seen: Vec<_> = seen.iter().map(|one| (one.get("function"), one.number("code"), one.get("what"))).collect();
        let beyond = ("cuLaunchKernel", 700, "beyond the context's device memory");
        let expected = [
            ("cuModuleLoadData", 218, "not PTX"),
            ("cuModuleLoadData", 218, "the stand-in knows PTX 8.0 for sm_52 only"),
            ("cuModuleLoadData", 218, "the stand-in knows PTX 8.0 for sm_52 only"),
            ("cuModuleLoadData", 218, "an entry is missing"),
            ("cuLaunchKernel", 400, "no such handle"),
            beyond,
            beyond,
            beyond,
            ("cuLaunchKernel", 716, "an access that is not aligned"),
            ("cuLaunchKernel", 1, "a dimension of 0"),
            ("cuLaunchKernel", 1, "more than a launch may have"),
            ("cuLaunchKernel", 400, "no such handle"),
            ("cuModuleUnload", 400, "no such handle"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(scene.leaks().iter().map(|leak| leak.get("kind")).collect::<Vec<_>>(), ["module"]);
        return;
    }
    let _context = context();
    for wrong in [
        "void rgba_to_nv12() {}".to_owned(),
        PTX.replace(".version 8.0", ".version 8.5"),
        PTX.replace(".target sm_52", ".target sm_90"),
        PTX.replace(".entry rgba_to_i420(", ".entry rgba_to_i444("),
    ] {
        assert_eq!(load(&wrong), Err(218));
    }
    let module = load(PTX).unwrap();
    assert_eq!(function(module, "rgba_to_rgb"), Err(500));
    let kernel = function(module, "rgba_to_nv12").unwrap();

    let dead = stream();
    cuda!(cuStreamDestroy_v2(dead)).unwrap();
    let out = Memory::new(64 * 48 * 3 / 2);
    let matrix = BT709_LIMITED.matrix();
    let frame = |bytes, size| Frame { rgba: Memory::new(bytes), pitch: 256, size };
    let right = frame(256 * 48, (64, 48));
    assert_eq!(right.to_nv12(kernel, out.at, 64, matrix, dead), Err(400));
    // A source that is one byte short, a target that is, and memory of the host.
    let null = ptr::null_mut();
    assert_eq!(frame(256 * 48 - 1, (64, 48)).to_nv12(kernel, out.at, 64, matrix, null), Err(700));
    assert_eq!(right.to_nv12(kernel, out.at + 2, 64, matrix, null), Err(700));
    let host = vec![0u8; 64 * 48 * 3 / 2];
    assert_eq!(right.to_nv12(kernel, host.as_ptr() as u64 & !1, 64, matrix, null), Err(700));
    assert_eq!(right.to_nv12(kernel, out.at, 63, matrix, null), Err(716));
    let no_rows = Frame { size: (64, 0), ..frame(256, (64, 0)) };
    assert_eq!(no_rows.to_nv12(kernel, out.at, 64, matrix, null), Err(1));
    let many = cuda!(cuLaunchKernel(kernel, 1, 1, 1, 64, 32, 1, 0, null, &mut ptr::null_mut(), ptr::null_mut()));
    assert_eq!(many, Err(1));
    right.to_nv12(kernel, out.at, 64, matrix, null).unwrap();

    cuda!(cuModuleUnload(module)).unwrap();
    assert_eq!(right.to_nv12(kernel, out.at, 64, matrix, null), Err(400));
    assert_eq!(cuda!(cuModuleUnload(module)), Err(400));
    load(PTX).unwrap();
}

#[test]
fn a_driver_or_board_too_old_for_the_ptx_says_so() {
    let test = "kernels::a_driver_or_board_too_old_for_the_ptx_says_so";
    match child::role().as_deref() {
        None => {}
        Some(code) => {
            let _context = context();
            return assert_eq!(load(PTX).map(drop), Err(code.parse().unwrap()));
        }
    }
    let mut old = Scene::rtx();
    old.cuda(11_080);
    let mut kepler = Scene::new();
    kepler.board(Board::new("NVIDIA Tesla K40").cc(3, 5));
    for (scene, code) in [(&old, "222"), (&kepler, "209")] {
        child::run(scene, test, code);
        assert_eq!(scene.violations(), []);
    }
}
