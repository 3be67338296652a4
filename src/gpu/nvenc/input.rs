//! The pictures that an encoder reads: memory of its device, known to it.

use std::ffi::c_void;
use std::ptr::NonNull;

use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;

use super::encoder::{Encoder, Failure, call, patiently};
use super::settings::PictureFormat;
use crate::gpu::picture::Surface;

/// A picture that is registered with an encoder. [`Input::end`] is due before the encoder goes.
pub(super) struct Input {
    pub(super) surface: Surface,
    registered: NonNull<c_void>,
    /// While the encoder has it.
    mapped: Option<NonNull<c_void>>,
    /// Whether what was encoded of it has been collected.
    read: bool,
}

impl Input {
    pub(super) fn register(encoder: &Encoder, format: PictureFormat, surface: Surface) -> Result<Input, Failure> {
        let (width, height) = surface.size();
        let mut params = sys::NV_ENC_REGISTER_RESOURCE {
            version: sys::NV_ENC_REGISTER_RESOURCE_VER,
            resourceType: sys::NV_ENC_INPUT_RESOURCE_TYPE::NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR,
            width,
            height,
            pitch: surface.pitch() as u32,
            resourceToRegister: surface.pointer() as *mut c_void,
            bufferFormat: format.raw(),
            bufferUsage: sys::NV_ENC_BUFFER_USAGE::NV_ENC_INPUT_IMAGE,
            ..Default::default()
        };
        // SAFETY: the encoder is live and initialised, the structure whole; the memory is of the encoder's context, with all
        // the rows that the size and the pitch say, and lives until it is unregistered.
        unsafe { call!(encoder, nvEncRegisterResource, &mut params)? };
        let registered = encoder.made("nvEncRegisterResource", params.registeredResource)?;
        Ok(Input { surface, registered, mapped: None, read: false })
    }

    /// Hands the picture to the encoder, until [`Input::unmap`].
    pub(super) fn map(&mut self, encoder: &Encoder) -> Result<NonNull<c_void>, Failure> {
        let mut params = sys::NV_ENC_MAP_INPUT_RESOURCE {
            version: sys::NV_ENC_MAP_INPUT_RESOURCE_VER,
            registeredResource: self.registered.as_ptr(),
            ..Default::default()
        };
        // SAFETY: the encoder is live, the structure whole, the resource the encoder's and not mapped, as `mapped` says.
        patiently(|| unsafe { call!(encoder, nvEncMapInputResource, &mut params) })?;
        let mapped = encoder.made("nvEncMapInputResource", params.mappedResource)?;
        (self.mapped, self.read) = (Some(mapped), false);
        Ok(mapped)
    }

    /// Whether the encoder may be reading it.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapped.is_some() && !self.read
    }

    /// Takes it back, where the encoder has it. What was encoded of it must have been collected. Where that fails, it is not to
    /// be mapped again.
    pub(super) fn unmap(&mut self, encoder: &Encoder) -> Result<(), Failure> {
        self.read = true;
        if let Some(mapped) = self.mapped {
            // SAFETY: the resource is mapped, and the encoder does not read it any more.
            unsafe { call!(encoder, nvEncUnmapInputResource, mapped.as_ptr()) }?;
            self.mapped = None;
        }
        Ok(())
    }

    /// What the driver does not take back goes with its session: then the memory, which is given back here, may only go
    /// after that.
    pub(super) fn end(mut self, encoder: &Encoder) -> Option<Surface> {
        let ended = self.unmap(encoder).and_then(|()| {
            // SAFETY: the resource is the encoder's and not mapped, and this is its last use; its memory goes after it.
            unsafe { call!(encoder, nvEncUnregisterResource, self.registered.as_ptr()) }
        });
        let failure = ended.err()?;
        failure.note();
        Some(self.surface)
    }
}
