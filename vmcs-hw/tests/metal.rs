//! The boot image on machines with a BIOS and with UEFI, and work over their serial lines.

#[path = "support/machines.rs"]
mod machines;
mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use machines::{BochsMachine, Firmware, Medium, QemuMachine, Wire};
use support::{base_image, bochs, exit_reason, launch, run, session};
use tempfile::TempDir;
use vmcs_case::latency::{Sampled, Scenario, sample};
use vmcs_case::profile::NamedProfile;
use vmcs_case::{Case, End, ProbeReport, StepResult, Target, TargetError, layout};
use vmcs_hw::bochs::{BochsInstall, BochsTarget};
use vmcs_hw::metal::iso::{self, IsoOptions};
use vmcs_hw::metal::tools::Tools;
use vmcs_hw::metal::{LineName, MetalOptions, MetalTarget};
use vmcs_model::Capabilities;

const MODEL: &str = "corei7_skylake_x";

/// A boot image in a directory of its own; `None` where the programs that make it are missing.
fn image(options: &IsoOptions) -> Option<(TempDir, PathBuf)> {
    let Some(tools) = Tools::find() else {
        println!(
            "skipped: GRUB, xorriso and mtools are not all there (Debian: `apt-get install grub-common grub-pc-bin \
             grub-efi-amd64-bin xorriso mtools`)"
        );
        return None;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("probe.iso");
    iso::write(&image, &tools, options, &mut || ControlFlow::Continue(())).expect("the image is made");
    Some((directory, image))
}

fn plain(install: &BochsInstall) -> BochsMachine<'_> {
    BochsMachine { install, model: MODEL, memory: 32, old_bios: false, medium: Medium::Cd }
}

fn open(line: &Path) -> Result<MetalTarget, TargetError> {
    MetalTarget::open(LineName { path: line.to_owned(), baud: 115_200 }, MetalOptions::default())
}

/// Cases of which some enter and some fail, each in its own way.
fn cases(report: &ProbeReport, count: u64) -> Vec<Case> {
    let case = |number: u64| match number % 4 {
        0 => launch(report, &[(0x6820, 2 | number << 32)]),
        1 => launch(report, &[(0x4002, number)]),
        2 => launch(report, &[(0x6C00, number)]),
        _ => launch(report, &[(0x681A, number)]),
    };
    (0..count).map(case).collect()
}

/// Cases over a line, and over the disk of the same processor.
fn compare(one_of: u64, count: u64) {
    let Some(install) = bochs() else { return };
    let Some((directory, image)) = image(&IsoOptions::default()) else { return };
    let wire = Wire::new(directory.path(), one_of);
    let _machine = plain(&install).start(directory.path(), &image, wire.machine);
    let mut metal = open(&wire.host).expect("the probe greets");
    let mut disk = BochsTarget::new(install.clone(), MODEL).expect("the model exists");
    let report = metal.capture().expect("the probe answers");
    assert_eq!(report, disk.capture().expect("the probe answers"));
    assert!(metal.implementation().to_string().starts_with("metal 0x50654 GenuineIntel Intel"));

    let session = session(&report);
    let observations = run(&mut metal, &session, cases(&report, count));
    assert_eq!(observations, run(&mut disk, &session, cases(&report, count)));
    assert!(observations.iter().any(|observation| exit_reason(observation) == Some(18)));
    assert_eq!(wire.damaged() > 10, one_of > 0, "{} bytes were damaged", wire.damaged());
}

#[test]
fn a_thousand_cases_come_back_over_the_line() {
    compare(0, 1000);
}

#[test]
fn a_thousand_cases_come_back_over_a_line_that_damages_bytes() {
    compare(4000, 1000);
}

#[test]
fn measurements_come_back_over_the_line() {
    let Some(install) = bochs() else { return };
    let Some((directory, image)) = image(&IsoOptions::default()) else { return };
    let wire = Wire::new(directory.path(), 4000);
    let _machine = plain(&install).start(directory.path(), &image, wire.machine);
    let mut metal = open(&wire.host).expect("the probe greets");
    let report = metal.capture().expect("the probe answers");
    let capabilities = Capabilities::new(&NamedProfile::captured(MODEL, "test", &report).profile);
    let scenarios: Vec<_> = Scenario::all().iter().collect();
    let measure = |target: &mut dyn Target| sample(target, &capabilities, &scenarios, 300).expect("it measures");
    let samples = measure(&mut metal);
    // This machine's counter is that of a Bochs, which counts instructions.
    let mut disk = BochsTarget::new(install.clone(), MODEL).expect("the model exists");
    assert_eq!(samples, measure(&mut disk));
    assert!(samples.scenarios.iter().all(|sampled| matches!(sampled, Sampled::Measured(all) if all.len() == 300)));
}

#[test]
fn a_machine_that_starts_again_costs_one_case() {
    let Some(install) = bochs() else { return };
    let Some((directory, image)) = image(&IsoOptions::default()) else { return };
    let wire = Wire::new(directory.path(), 0);
    let _machine = plain(&install).start(directory.path(), &image, wire.machine);
    let mut metal = open(&wire.host).expect("the probe greets");
    let report = metal.capture().expect("the probe answers");
    let mut cases: Vec<Case> = (0..40).map(|_| launch(&report, &[])).collect();
    // Page tables of zeros after the exit: a triple fault.
    let crashing = [0, 20];
    crashing.iter().for_each(|&index| cases[index] = launch(&report, &[(0x6C02, layout::SCRATCH)]));
    let observations = run(&mut metal, &session(&report), cases);
    for (index, observation) in observations.iter().enumerate() {
        if crashing.contains(&index) {
            assert!(matches!(&observation.end, End::Crashed { detail } if detail.contains("reset")), "{observation:?}");
            assert_eq!(observation.steps, vec![StepResult::Ok; 5], "{index}");
        } else {
            assert_eq!(exit_reason(observation), Some(18), "{index}");
        }
    }
    // Another host finds the machine ready.
    drop(metal);
    let again = open(&wire.host).and_then(|mut metal| metal.capture()).expect("the probe answers");
    assert_eq!(again, report);
}

#[test]
fn what_keeps_a_machine_from_working_is_said_in_a_line() {
    let Some(install) = bochs() else { return };
    let table = [
        (BochsMachine { model: "athlon64_clawhammer", ..plain(&install) }, "", "no VMX: AuthenticAMD"),
        (BochsMachine { model: "p3_katmai", ..plain(&install) }, "", "the processor has no 64-bit mode"),
        (BochsMachine { memory: 24, ..plain(&install) }, "", "too little memory: 24 MB, the probe needs 32 MB"),
        (
            BochsMachine { old_bios: true, ..plain(&install) },
            "wrmsr 0x3a 1",
            "VMX is locked off by the firmware (IA32_FEATURE_CONTROL is 0x1)",
        ),
        (BochsMachine { medium: Medium::Disk, ..plain(&install) }, "", "vmcs-probe: ready"),
    ];
    for (machine, command, expected) in table {
        let options = IsoOptions { commands: vec![command.to_owned()], ..IsoOptions::default() };
        let Some((directory, image)) = image(&options) else { return };
        let wire = Wire::new(directory.path(), 0);
        let _machine = machine.start(directory.path(), &image, wire.machine);
        wire.wait_for(expected);
    }
}

#[test]
fn a_host_is_told_the_diagnosis() {
    let Some(install) = bochs() else { return };
    let Some((directory, image)) = image(&IsoOptions::default()) else { return };
    let wire = Wire::new(directory.path(), 0);
    let machine = BochsMachine { model: "athlon64_clawhammer", ..plain(&install) };
    let _machine = machine.start(directory.path(), &image, wire.machine);
    let error = open(&wire.host).expect_err("the processor has no VMX");
    assert!(matches!(&error, TargetError::Probe(reason) if reason.contains("has no VMX: AuthenticAMD")), "{error}");
}

#[test]
fn baked_cases_are_answered_in_a_line_each() {
    let Some(install) = bochs() else { return };
    let mut disk = BochsTarget::new(install.clone(), MODEL).expect("the model exists");
    let report = disk.capture().expect("the probe answers");
    let zero = [(0x6C00, 0)];
    let baked = [launch(&report, &[]), launch(&report, &zero), launch(&report, &[])];
    let requests = iso::requests(&session(&report), baked.into_iter()).expect("they are small");
    let Some((directory, image)) = image(&IsoOptions { requests: Some(requests), ..IsoOptions::default() }) else {
        return;
    };
    assert!(base_image(&report).iter().any(|field| field.0 == zero[0].0));
    let wire = Wire::new(directory.path(), 0);
    let _machine = plain(&install).start(directory.path(), &image, wire.machine);
    let said = wire.wait_for("vmcs-probe: ready");
    let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("vmcs-probe: case ")).collect();
    let outcome = |line: &str| line.rsplit_once(", ").map(|(outcome, _)| outcome.to_owned());
    assert_eq!(
        lines.iter().filter_map(|line| outcome(line)).collect::<Vec<_>>(),
        ["0: exit(18, 0x0)", "1: VMfailValid(8)", "2: exit(18, 0x0)"]
    );
    assert!(said.contains("vmcs-probe: 3 cases, "), "{said}");
    // The same case gives the same checksum, another case another one.
    let sum = |index: usize| lines[index].rsplit_once(", ").map(|(_, sum)| sum.trim());
    assert_eq!(sum(0), sum(2));
    assert_ne!(sum(0), sum(1));
}

#[test]
fn qemu_starts_the_image_by_bios_and_uefi_from_cd_and_stick() {
    if !QemuMachine::exists() {
        return;
    }
    let Some((directory, image)) = image(&IsoOptions::default()) else { return };
    for (uefi, medium, cpu, expected) in [
        (false, Medium::Cd, "qemu64", "the processor has no VMX: AuthenticAMD QEMU"),
        (
            false,
            Medium::Disk,
            "Skylake-Client,vendor=GenuineIntel",
            "the processor has no VMX: GenuineIntel Intel Core",
        ),
        (false, Medium::Cd, "qemu32", "the processor has no 64-bit mode"),
        (true, Medium::Cd, "qemu64", "the processor has no VMX: AuthenticAMD QEMU"),
        (true, Medium::Disk, "qemu64", "the processor has no VMX: AuthenticAMD QEMU"),
    ] {
        let firmware = if uefi { Firmware::find() } else { None };
        if uefi && firmware.is_none() {
            continue;
        }
        let place = tempfile::tempdir_in(directory.path()).expect("a directory");
        let wire = Wire::new(place.path(), 0);
        let _machine = QemuMachine { firmware, cpu, medium }.start(place.path(), &image, wire.machine);
        wire.wait_for(expected);
    }
}
