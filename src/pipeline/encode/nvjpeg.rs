//! JPEG by nvJPEG: pictures that lie on a GPU stay there, and only the JPEG comes to host memory.
//!
//! It works on the device that its pictures lie on; those in host memory are brought to the chosen device, or the
//! first.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Config, Encoder, Output, Unit, jpeg};
use crate::clock::now_us;
use crate::error::Result;
use crate::gpu::cuda::Context;
use crate::gpu::nvenc::Refused;
use crate::gpu::nvjpeg;
use crate::gpu::picture::Planar;
use crate::pipeline::convert::ToPlanar;
use crate::pipeline::frame::{Frame, Size};
use crate::pipeline::rate::{self, Steps};
use crate::pipeline::timing::Stage;
use crate::range;
use crate::wire::message::HEADER;
use crate::wire::status::Cause;

/// Opens an encoder where the pictures lie, else on the GPU of that UUID, or the first one.
pub fn open(config: &Config, gpu: Option<&str>, output: Output) -> Result<Box<dyn Encoder>, Refused> {
    let engine = Engine::new(&nvjpeg::device(config.near, gpu)?, config.size)?;
    Ok(Box::new(Nvjpeg { engine, steps: jpeg::steps(config), bytes: 0, output }))
}

/// What is of one device and one size.
struct Engine {
    encoder: nvjpeg::Encoder,
    convert: ToPlanar,
    planar: Planar,
}

impl Engine {
    fn new(context: &Arc<Context>, size: Size) -> Result<Engine, Refused> {
        let encoder = nvjpeg::Encoder::open(context)?;
        let planar = Planar::new(context, size.width, size.height);
        let planar = planar.map_err(|error| Refused { cause: Cause::Fault, error })?;
        Ok(Engine { encoder, convert: ToPlanar::default(), planar })
    }

    fn fits(&self, context: &Context, size: Size) -> bool {
        self.planar.context().same(context) && self.planar.size() == (size.width, size.height)
    }
}

struct Nvjpeg {
    engine: Engine,
    steps: Steps,
    /// Of the last unit.
    bytes: usize,
    output: Output,
}

impl Encoder for Nvjpeg {
    fn submit(&mut self, frame: Frame, _idr: bool) -> Result<()> {
        let started_us = now_us();
        let context = frame.picture().map_or(self.engine.planar.context(), |picture| picture.context());
        if !self.engine.fits(context, frame.size) {
            self.engine = Engine::new(&context.clone(), frame.size)?;
        }
        let Engine { encoder, convert, planar } = &mut self.engine;
        range::within(Stage::Convert.name(), || convert.write(&frame, encoder.stream(), planar))?;
        let converted_us = now_us();
        let mut data = BytesMut::with_capacity(HEADER + self.bytes * 3 / 2);
        data.resize(HEADER, 0);
        range::within(Stage::Encode.name(), || encoder.encode(planar, self.steps.quality(), &mut data))?;
        self.bytes = data.len() - HEADER;
        self.steps.made(self.bytes);
        (self.output)(Ok(Unit { frame, key: true, data, started_us, converted_us, encoded_us: now_us() }));
        Ok(())
    }

    fn reconfigure(&mut self, config: &Config) -> Result<()> {
        self.steps.aim(config.quality, rate::budget(config.bitrate, config.fps));
        Ok(())
    }
}
