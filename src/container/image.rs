//! The image: here already, or pulled.

use std::collections::HashMap;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::engine::Engine;
use super::fault;
use crate::error::{Error, Kind, Result};
use crate::output::Printer;

/// An image that is here.
pub(super) struct Image {
    /// `NAME=VALUE`, as the image sets them.
    pub environment: Vec<String>,
}

/// The image, if it is here.
pub(super) async fn here(engine: &Engine, name: &str) -> Result<Option<Image>> {
    match engine.docker.inspect_image(name).await {
        Ok(seen) => Ok(Some(Image { environment: seen.config.and_then(|config| config.env).unwrap_or_default() })),
        Err(error) if fault::absent(&error) => Ok(None),
        Err(error) => Err(fault::of(format!("the image {name} cannot be looked at"), error)),
    }
}

/// The labels that an image gives its containers; none for one that is gone.
pub(super) async fn labels(engine: &Engine, id: &str) -> Result<HashMap<String, String>> {
    match engine.docker.inspect_image(id).await {
        Ok(seen) => Ok(seen.config.and_then(|config| config.labels).unwrap_or_default()),
        Err(error) if fault::absent(&error) => Ok(HashMap::new()),
        Err(error) => Err(fault::of(format!("the image {id} cannot be looked at"), error)),
    }
}

/// What a registry calls the content of an image: `sha256:…`; `None` for one that came from no registry.
pub(super) async fn digest(engine: &Engine, id: &str) -> Option<String> {
    let digests = engine.docker.inspect_image(id).await.ok()?.repo_digests?;
    Some(digests.first()?.split_once('@')?.1.to_string())
}

/// The image, pulled if it is not here. A pull that nobody waits for any more is given up by the engine itself.
pub(super) async fn ensure(engine: &Engine, name: &str, printer: &Printer) -> Result<Image> {
    if let Some(image) = here(engine, name).await? {
        return Ok(image);
    }
    let mut layers = printer.layers(&format!("pulling {name}"));
    // Without a tag, all of them would be pulled.
    let options = CreateImageOptionsBuilder::new().from_image(name).build();
    let mut steps = std::pin::pin!(engine.docker.create_image(Some(options), None, None));
    while let Some(step) = steps.next().await {
        let step = step.map_err(|error| fault::pull(name, error))?;
        if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
            return Err(fault::pull(name, bollard::errors::Error::DockerStreamError { error }));
        }
        let figure = step.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
        let figure = figure.and_then(|(done, total)| Some((done.try_into().ok()?, total.try_into().ok()?)));
        if let Some(layer) = step.id {
            layers.at(&layer, &step.status.unwrap_or_default(), figure);
        }
    }
    layers.end("it is here");
    here(engine, name).await?.ok_or_else(|| {
        Error::new(Kind::Unreachable, format!("the image {name} was pulled, and is not here"))
            .hint(format!("docker pull {name}"))
    })
}
