//! Opening the machines that benches measure.

use std::env;

use vmcs_case::Target;
use vmcs_hw::metal::MetalOptions;
use vmcs_hw::targets::{TargetName, present};

/// The CPU model that every Bochs has.
const MODEL: &str = "corei7_skylake_x";
/// The machines that are asked for first: Debian's stable Bochs, the most used, or else the newest.
const DEFAULT: [&str; 2] = ["bochs@2.7", "bochs"];

/// Names the machine: `bochs`, `bochs@2.7`, `kvm`, `kvm@bochs`, `metal:/dev/ttyS0`.
pub const VARIABLE: &str = "VMCS_BENCH_TARGET";
/// Names its CPU model, if it is a Bochs.
pub const CPU_VARIABLE: &str = "VMCS_BENCH_CPU";

/// The machine that the environment names, else a Bochs 2.7 or the newest.
///
/// # Errors
/// One line that says why there is none.
pub fn machine() -> Result<Box<dyn Target>, String> {
    match env::var(VARIABLE) {
        Ok(name) => named(&name),
        Err(_) => DEFAULT.into_iter().map(named).reduce(Result::or).expect("there are two"),
    }
}

/// Every machine that can be opened without more arguments, with its name: each Bochs, the KVM of the host, and the one that
/// the environment names.
#[must_use]
pub fn machines() -> Vec<(String, Box<dyn Target>)> {
    let here = present().unwrap_or_default().into_iter().map(|present| present.name);
    let quick = here.filter(|name| matches!(name, TargetName::Bochs(_) | TargetName::Kvm));
    let mut names: Vec<_> = quick.map(|name| name.to_string()).collect();
    names.extend(env::var(VARIABLE).ok());
    names.sort();
    names.dedup();
    let open = |name: String| match named(&name) {
        Ok(target) => Some((name, target)),
        Err(why) => {
            println!("skipped: {name}: {why}");
            None
        }
    };
    names.into_iter().filter_map(open).collect()
}

fn named(name: &str) -> Result<Box<dyn Target>, String> {
    let name: TargetName = name.parse().map_err(|error: vmcs_hw::targets::NotATarget| error.to_string())?;
    let model = env::var(CPU_VARIABLE).unwrap_or_else(|_| MODEL.to_owned());
    let machine = name.machine(name.has_cpu_models().then_some(model.as_str())).map_err(|error| error.to_string())?;
    machine.open(&MetalOptions::default()).map_err(|error| error.to_string())
}
