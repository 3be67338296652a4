//! `gsk generate`: shell completions and man pages from the definition of the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Error, Result};
use crate::exit::{self, Code};

/// The name of the command, which is for those who change the command line: it stands in no help and no completion.
pub const NAME: &str = "generate";

/// The flags of `gsk generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// Directory to write completions/ and man/ into
    dir: PathBuf,
}

/// The command itself, to be added to the public ones.
pub fn definition() -> clap::Command {
    GenerateArgs::augment_args(clap::Command::new(NAME).about("Write shell completions and man pages").hide(true))
}

pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    for (path, bytes) in files()? {
        put(&args.dir.join(path), &bytes)?;
    }
    Ok(Code::Good.into())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let fault = |e| Error::io(format!("{}: the file cannot be written", path.display()), e);
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fault)?;
    std::fs::write(path, bytes).map_err(fault)
}

/// Every file by its path, the same on every machine and day.
fn files() -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (shell, name) in
        [(Shell::Bash, "gsk.bash"), (Shell::Zsh, "_gsk"), (Shell::Fish, "gsk.fish"), (Shell::PowerShell, "_gsk.ps1")]
    {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut super::command(), "gsk", &mut bytes);
        files.push((format!("completions/{name}"), bytes));
    }
    let mut program = super::command().disable_help_subcommand(true);
    program.build();
    for command in with_all_below(&program) {
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let page = page(command.clone().name(name.clone()))
            .map_err(|e| Error::bug("a man page cannot be written").cause(e))?;
        files.push((format!("man/{name}.1"), page));
    }
    Ok(files)
}

/// A command, and those below it at any depth.
fn with_all_below(command: &clap::Command) -> Vec<&clap::Command> {
    std::iter::once(command).chain(command.get_subcommands().flat_map(with_all_below)).collect()
}

fn page(command: clap::Command) -> std::io::Result<Vec<u8>> {
    let branches = command.has_subcommands();
    let version = format!("gsk {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.version(env!("CARGO_PKG_VERSION"))).source(version).manual("GPU Streaming Kit");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if branches {
        man.render_subcommands_section(&mut page)?;
    }
    for (heading, text) in [("SETTINGS", super::SETTINGS), ("EXIT STATUS", exit::TABLE)] {
        page.extend(section(heading, text).bytes());
    }
    Ok(page)
}

/// A section of preformatted text, less its first line, which the heading replaces.
fn section(heading: &str, text: &str) -> String {
    let lines = text.lines().skip(1).map(|line| line.trim_start().replace('\\', "\\\\").replace('-', "\\-"));
    // A leading dot or quote would be read as a request.
    let lines = lines.map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line });
    format!(".SH \"{heading}\"\n.nf\n{}\n.fi\n", lines.collect::<Vec<_>>().join("\n"))
}
