//! A start, from the plan to a stream that can be watched.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use bollard::models::{ContainerCreateBody, MountType};
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::engine::Engine;
use super::gpu::{self, Passed};
use super::keeper::Keeper;
use super::managed::{self, Ours};
use super::plan::Plan;
use super::profile::OnChange;
use super::show::{Action, Change};
use super::{fault, image, login, ports, ready};
use crate::error::{Error, Kind, Result};
use crate::output::Printer;

/// Starts what was planned, unless it runs already, and waits until it can be watched. Where it comes to nothing, nothing is
/// left of it. `printer` tells what happens on the way.
pub async fn start(engine: &Engine, plan: &Plan, printer: &Printer) -> Result<Change> {
    let name = plan.container();
    let old = managed::find(engine, &name).await?;
    let gpu = gpu::passed(&plan.gpu, plan.profile.gpu, &engine.info, engine.local())?;
    let running = old.as_ref().filter(|old| old.runs());
    if let Some(old) = running {
        if same(engine, plan, &gpu, old).await? {
            return Ok(Change::new(&name, Action::Kept, "it runs already"));
        }
        if plan.profile.on_change == OnChange::Keep {
            printer.warn(&format!(
                "{name} runs with other settings, and is left as it is\nto have these: gsk {0} stop, then gsk {0} start",
                plan.stream.word()
            ));
            return Ok(Change::new(&name, Action::Kept, "it runs already, with other settings"));
        }
    }
    let change = match (running, &old) {
        (Some(_), _) => Change::new(&name, Action::Recreated, "its settings changed"),
        (None, Some(_)) => Change::new(&name, Action::Created, "it had ended"),
        (None, None) => Change::new(&name, Action::Created, "there was none"),
    };
    replace(engine, plan, &gpu, old.as_ref(), printer).await?;
    Ok(change)
}

/// Starts what was planned anew, in the place of what runs.
pub async fn restart(engine: &Engine, plan: &Plan, printer: &Printer) -> Result<Change> {
    let name = plan.container();
    let old = managed::find(engine, &name).await?;
    let gpu = gpu::passed(&plan.gpu, plan.profile.gpu, &engine.info, engine.local())?;
    let why = match &old {
        Some(old) if !same(engine, plan, &gpu, old).await? => "it was restarted, with other settings than it had",
        _ => "it was restarted",
    };
    replace(engine, plan, &gpu, old.as_ref(), printer).await?;
    Ok(Change::new(&name, Action::Recreated, why))
}

/// Creates the container, and before that removes the old one: only once nothing that can be known hinders the new one.
async fn replace(engine: &Engine, plan: &Plan, gpu: &Passed, old: Option<&Ours>, printer: &Printer) -> Result<()> {
    let held = old.filter(|old| old.runs()).map(Ours::ports).unwrap_or_default();
    ports::check(engine, plan, &held).await?;
    let image = image::ensure(engine, &plan.image, printer).await?;
    let random = getrandom::u64().map_err(|error| Error::failed("no random numbers").cause(error))?;
    let start = format!("{random:016x}");
    let body = plan.body(&image.environment, gpu, &start)?;
    if engine.local() {
        folders_there(plan, &body)?;
    }
    make_folders(plan)?;
    if let Some(why) = &gpu.why {
        let name = plan.container();
        printer.note(&format!("no GPU for {name}: {why}; its pictures are drawn and encoded by the CPU"));
    }
    if let Some(old) = old {
        managed::remove(engine, plan.stream, old, old.runs()).await?;
        ports::check(engine, plan, &[]).await?;
    }
    create(engine, plan, &start, body, printer).await
}

/// Whether a running container is as the plan would have it; not where the image is gone by which that is known.
async fn same(engine: &Engine, plan: &Plan, gpu: &Passed, old: &Ours) -> Result<bool> {
    let Some(image) = image::here(engine, &plan.image).await? else { return Ok(false) };
    let body = plan.body(&image.environment, gpu, "")?;
    let config = body.labels.as_ref().and_then(|labels| labels.get("gsk.config"));
    Ok(config.map(String::as_str) == old.label("config"))
}

async fn create(engine: &Engine, plan: &Plan, start: &str, body: ContainerCreateBody, printer: &Printer) -> Result<()> {
    let name = plan.container();
    // The user's own file is not ours to remove.
    let kept = plan.made_login();
    let mut keeper = Keeper::watch(engine, &name, start, kept.map(|login| login.file.as_path()))?;
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let id = match engine.docker.create_container(Some(options), body).await {
        Ok(created) => created.id,
        Err(error) => {
            // Only an answer means that none comes any more.
            match error {
                bollard::errors::Error::DockerResponseServerError { .. } => keeper.release(),
                _ => keeper.remove(),
            }
            return Err(fault::of(format!("{name} cannot be created"), error));
        }
    };
    keeper.created();
    let started = async {
        // Not before: a start of the same name elsewhere would have won by then.
        kept.map(|login| login::keep(&login.file, &login.password)).transpose()?;
        let started = engine.docker.start_container(&id, None).await;
        started.map_err(|error| fault::of(format!("{name} cannot be started"), error))?;
        ready::wait(engine, plan, &id, printer).await
    };
    match started.await {
        Ok(()) => {
            keeper.release();
            Ok(())
        }
        Err(error) => {
            keeper.remove();
            Err(error)
        }
    }
}

/// That the folders are there which the container is shown and gsk does not make: they are the user's.
fn folders_there(plan: &Plan, body: &ContainerCreateBody) -> Result<()> {
    let mounts = body.host_config.iter().flat_map(|host| host.mounts.iter().flatten());
    let sources = mounts.filter(|mount| mount.typ == Some(MountType::BIND)).filter_map(|mount| mount.source.as_deref());
    for source in sources.map(Path::new).filter(|source| !plan.folders.iter().any(|ours| ours == source)) {
        // What we may not see, the engine may: it has the last word.
        if matches!(source.try_exists(), Ok(false)) {
            return Err(Error::usage(format!(
                "{}: there is no such folder to show to the container",
                source.display()
            ))
            .cause("a mount of the profile or of the Compose file names it; gsk makes folders below its own only")
            .hint(format!("make it, for the user that the container runs as: mkdir -p {}", source.display())));
        }
    }
    Ok(())
}

/// Makes the folders that the container writes to, and gives them to the user that it runs as.
fn make_folders(plan: &Plan) -> Result<()> {
    let fault = |folder: &Path, error| Error::io(format!("{}: the folder cannot be made", folder.display()), error);
    for folder in &plan.folders {
        std::fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
    }
    // All of them are there by now, so that one command gives them all away.
    let Some((user, group)) = plan.owner else { return Ok(()) };
    for folder in &plan.folders {
        let owner = std::fs::metadata(folder).map_err(|error| fault(folder, error))?.uid();
        if owner != user && chown(folder, Some(user), Some(group)).is_err() {
            return Err(not_theirs(plan, folder, user, group));
        }
    }
    Ok(())
}

fn not_theirs(plan: &Plan, folder: &Path, user: u32, group: u32) -> Error {
    let all: Vec<String> = plan.folders.iter().map(|path| path.display().to_string()).collect();
    Error::new(Kind::Permission, format!("{}: the folder cannot be given to user {user}", folder.display()))
        .cause("the program in the container runs as that user and writes there; only root gives folders away")
        .hint(format!("sudo chown -R {user}:{group} {}", all.join(" ")))
}
