//! `weir new`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use include_dir::{Dir, include_dir};

use crate::exit::Failure;
use crate::{out, sdk};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/template");

/// Make a folder with a new job: a Rust guest, a job spec, something to read
///
/// Example: weir new counts && cd counts && weir run job.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder; its name is the job's
    #[arg(value_name = "NAME")]
    folder: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let name = package_name(&args.folder)?;
    if args.folder.exists() {
        return Err(anyhow::anyhow!("{} is there already", args.folder.display()).into());
    }
    let sdk = sdk::unpacked()?;
    let sdk = sdk.to_str().context("the SDK's folder has a name that is not UTF-8: set WEIR_HOME")?;
    write(&TEMPLATE, &args.folder, &[("{{name}}", &name), ("{{sdk}}", &sdk.replace('\\', "/"))])?;
    out::tell(&format!("made {0}\n\n  cd {0}\n  weir run job.toml", args.folder.display()));
    Ok(())
}

/// The name of the folder, if cargo takes it as the name of a package beside those of the SDK.
fn package_name(folder: &Path) -> anyhow::Result<String> {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c)) {
        bail!("\"{name}\" cannot be the name of a job: write small letters, digits, - and _, with a letter first");
    }
    // The SDK's crates are among a guest's packages, from which cargo could not tell it. In the names of crates, `-` and `_` are the same.
    if let Some(taken) = sdk::crate_names().find(|taken| *taken == name.replace('_', "-")) {
        bail!(
            "\"{name}\" cannot be the name of a job: the SDK has a crate `{taken}`, which every job depends on; take another name"
        );
    }
    Ok(name.to_owned())
}

/// Writes a folder of the template, with the placeholders filled in.
fn write(template: &Dir<'_>, root: &Path, values: &[(&str, &str)]) -> anyhow::Result<()> {
    let folder = root.join(template.path());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for file in template.files() {
        let text = file.contents_utf8().context("the template is text")?;
        let text = values.iter().fold(text.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value));
        // A file by that name would have its way with the template itself.
        let path = if file.path() == Path::new("gitignore") { Path::new(".gitignore") } else { file.path() };
        let path = root.join(path);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    template.dirs().try_for_each(|dir| write(dir, root, values))
}
