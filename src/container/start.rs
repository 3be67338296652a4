//! A start, from the plan to a stream that can be watched.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

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
    let mut action = Action::Created;
    let mut why = "there was none".to_string();
    if let Some(old) = &old {
        if old.runs() {
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
            why = "its settings changed".into();
            action = Action::Recreated;
        } else {
            why = "it had ended".into();
        }
        managed::remove(engine, plan.stream, old).await?;
    }
    ports::check(engine, plan).await?;
    let image = image::ensure(engine, &plan.image, printer).await?;
    if let Some(why) = &gpu.why {
        printer.note(&format!("no GPU for {name}: {why}; its pictures are drawn and encoded by the CPU"));
    }
    make_folders(plan)?;
    create(engine, plan, &image.environment, &gpu, printer).await?;
    Ok(Change::new(&name, action, why))
}

/// Whether a running container is as the plan would have it; not where the image is gone by which that is known.
async fn same(engine: &Engine, plan: &Plan, gpu: &Passed, old: &Ours) -> Result<bool> {
    let Some(image) = image::here(engine, &plan.image).await? else { return Ok(false) };
    let body = plan.body(&image.environment, gpu, "")?;
    let config = body.labels.as_ref().and_then(|labels| labels.get("gsk.config"));
    Ok(config.map(String::as_str) == old.label("config"))
}

async fn create(engine: &Engine, plan: &Plan, image: &[String], gpu: &Passed, printer: &Printer) -> Result<()> {
    let name = plan.container();
    let random = getrandom::u64().map_err(|error| Error::failed("no random numbers").cause(error))?;
    let start = format!("{random:016x}");
    let body = plan.body(image, gpu, &start)?;
    // The user's own file is not ours to remove.
    let ours = login::place(plan.stream, &plan.name).ok();
    let kept = plan.login.as_ref().filter(|login| Some(&login.file) == ours.as_ref());
    let keeper = Keeper::watch(engine, &name, &start, kept.map(|login| login.file.as_path()))?;
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let id = match engine.docker.create_container(Some(options), body).await {
        Ok(created) => created.id,
        Err(error) => {
            keeper.release();
            return Err(fault::of(format!("{name} cannot be created"), error));
        }
    };
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
