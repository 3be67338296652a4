//! From the time that the scene's picture shows to its painting in a page: a worker of its own, and a headless Chromium that
//! opens the worker's page. Each of the page's ways is measured.
//!
//! In it: drawing, capture, conversion, encoding, sending over loopback, the page's decoder, and the hand-over to Chromium's
//! compositor. Not in it: composition and the display. The page's own display of the total is read beside it.

use std::time::Duration;

use serde::Deserialize;

use super::network::runtime;
use crate::bench::browser::{self, Browser};
use crate::bench::run::{Runner, row_of};
use crate::bench::worker::Worker;
use crate::bench::{Case, Source};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::Size;

/// The page's ways, and what they carry.
const WAYS: [(&str, Codec); 3] = [("webcodecs", Codec::H264), ("mse", Codec::H264), ("mjpeg", Codec::Jpeg)];

const SCRIPT: &str = include_str!("../glass.js");
/// How long the first readable picture may take.
const FIRST: Duration = Duration::from_secs(15);
const GLANCE: Duration = Duration::from_millis(250);
/// The smallest picture whose mark is read in a page.
const LEAST: Size = Size::new(320, 180);

/// What the page tells.
#[derive(Debug, Default, Deserialize)]
struct Told {
    /// Ages of pictures when they were painted, ms, since the last time.
    samples: Vec<f64>,
    unreadable: u64,
    /// Wall clock less the page's, ms.
    skew: f64,
    /// The page's own median of the total over its last 5 s, ms.
    page: Option<f64>,
    state: Option<String>,
    reason: String,
    width: u32,
    height: u32,
}

pub fn run(runner: &mut Runner, size: Option<Size>) -> Result<()> {
    if runner.options.source != Source::Scene {
        return Err(Error::usage("only the scene's pictures show their time").hint("leave --source out"));
    }
    if size.is_some_and(|size| size.width < LEAST.width || size.height < LEAST.height) {
        return Err(Error::usage(format!("the time in a picture is read from {LEAST} on")));
    }
    let asked = runner.options.codec;
    let program = browser::find(runner.options.browser.as_deref())?;
    let worker = Worker::start(runner.options, size)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut browser = Browser::start(&program).await?;
        for (way, codec) in WAYS {
            let made = runner.options.encoder.codec() == codec || codec == Codec::Jpeg;
            if runner.stopping() || !made || asked.is_some_and(|asked| asked != codec) {
                continue;
            }
            let done = measure(runner, &mut browser, &worker, way, codec).await;
            if let Err(error) = done {
                let row = row_of(Case::Glass, way, codec.name(), size.unwrap_or(LEAST));
                runner.failed(Case::Glass, Some(row), size, error)?;
            }
        }
        Ok(())
    })
}

async fn measure(
    runner: &mut Runner<'_>,
    browser: &mut Browser,
    worker: &Worker,
    way: &str,
    codec: Codec,
) -> Result<()> {
    let (page, fragment) = worker.link.split_once('#').unwrap_or((&worker.link, ""));
    browser.open(&format!("{page}?via={way}#{fragment}"), SCRIPT).await?;
    let (began, mut told) = (now_us(), Told::default());
    while told.samples.is_empty() {
        if runner.stopping() {
            return browser.close().await;
        }
        if now_us() > began + FIRST.as_micros() as u64 {
            let words = [told.state.unwrap_or_else(|| "no page".into()), told.reason].join(" ");
            let error = Error::failed(format!("no picture could be read in the page within {} s", FIRST.as_secs()));
            return Err(error.cause(format!("its state is {words}; {} could not be read", told.unreadable)));
        }
        tokio::time::sleep(GLANCE).await;
        told = ask(browser).await?;
    }
    let fps = runner.options.fps;
    let picture = Size::new(told.width, told.height);
    runner.begin(row_of(Case::Glass, way, codec.name(), picture), fps, runner.frames());
    let frame_us = 1e6 / fps;
    let begin_us = now_us() + (runner.options.warmup as f64 * frame_us) as u64;
    let end_us = begin_us + (runner.options.frames as f64 * frame_us) as u64;
    let (mut pages, mut warm) = (Vec::new(), false);
    loop {
        if now_us() >= begin_us && !warm {
            warm = true;
            runner.warm();
        }
        told.samples.iter().for_each(|&sample| runner.frame(&[("glass", us(sample))]));
        pages.extend(told.page.filter(|_| warm));
        if now_us() >= end_us || runner.stopping() {
            break;
        }
        tokio::time::sleep(GLANCE).await;
        told = ask(browser).await?;
    }
    runner.weigh();
    browser.close().await?;
    let row = runner.row();
    row.fps = None;
    let skew = told.skew;
    let not = match way {
        "mjpeg" => "painted: put into the canvas",
        _ => "painted: handed to the compositor",
    };
    let unreadable = match told.unreadable {
        0 => String::new(),
        count => format!("; {count} pictures could not be read"),
    };
    // Over the same time, as nearly as its window of 5 s allows.
    pages.sort_by(f64::total_cmp);
    row.page_ms = pages.get(pages.len() / 2).copied();
    let own = match row.page_ms {
        Some(page) => format!("the page itself shows p50 {page:.1} ms"),
        None => "the page itself shows no total by this way".into(),
    };
    row.detail = Some(format!(
        "{own}; {not}; composition and display are not in it; clocks: {skew:.2} ms apart, corrected, known to 0.1 ms, and the picture's \
         time in whole ms{unreadable}"
    ));
    runner.end()
}

fn us(ms: f64) -> u64 {
    (ms * 1e3).max(0.0) as u64
}

async fn ask(browser: &mut Browser) -> Result<Told> {
    let told = browser.evaluate("window.__gskGlass ? window.__gskGlass() : null").await?;
    if told.is_null() {
        return Ok(Told::default());
    }
    serde_json::from_value(told).map_err(|error| Error::bug("the page tells what is not expected").cause(error))
}
