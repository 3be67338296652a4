//! Says at build time whether OpenH264 and JPEG get their SIMD code, which on x86 needs nasm.

use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    let x86 = matches!(std::env::var("CARGO_CFG_TARGET_ARCH").as_deref(), Ok("x86_64" | "x86"));
    // Elsewhere (NEON) the C compiler assembles it itself.
    let simd = match x86 {
        false => "cc",
        true if nasm() => "nasm",
        true => "none",
    };
    if simd == "none" {
        println!(
            "cargo::warning=nasm is missing: OpenH264 and JPEG are built without SIMD, at about half speed. To mend it: \
             apt-get install nasm && cargo clean -p openh264-sys2 -p mozjpeg-sys -p gsk"
        );
    }
    println!("cargo::rustc-env=GSK_SIMD={simd}");
}

fn nasm() -> bool {
    let run = Command::new("nasm").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
