//! Builds the page: `cargo run -p vmcs-page`.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vmcs_debian::InstallStep;
use vmcs_page::{PageError, module, page, toolchain};

/// Build the page that explains a VMCS in the browser: one HTML file, with the library compiled to WebAssembly
///
/// The compiler is that of the toolchain at hand if it can compile for wasm32-unknown-unknown (`rustup target add` adds that),
/// else the one of Debian's packages, which are unpacked into the user's cache directory (900 MB) without root rights.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The page [default: target/vmcs-explain.html of the workspace]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(page) => {
            println!("{}", page.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprintln!("  because: {error}");
                source = error.source();
            }
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<PathBuf, PageError> {
    let output = args.output.clone().unwrap_or_else(|| module::workspace().join("target/vmcs-explain.html"));
    let toolchain = toolchain::find(&mut |step| {
        if let InstallStep::Unpack { package } = step {
            eprintln!("unpacking {package}");
        }
        ControlFlow::Continue(())
    })?;
    let page = page::render(&module::compile(&toolchain)?);
    let failed = |source| PageError::Io { what: format!("writing {}", output.display()), source };
    fs::write(&output, page).map_err(failed)?;
    Ok(output)
}
