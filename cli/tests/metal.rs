//! `vmcs metal` and the target behind a serial line, from the outside.

mod support;

use std::fs;

use support::vmcs;

#[test]
fn an_image_that_cannot_be_made_is_refused_in_a_line_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let output = path("x.iso");
    fs::write(path("cases"), "{\"id\": \"a\", \"ops\": [{\"op\": \"vmx\"}]}\n").expect("a file");
    let profile = "sapphire-rapids";
    vmcs(&["metal", "iso", &output, "--cases", &path("cases"), "--profile", profile]).refused(&["cases:1: ", "vmx"]);
    vmcs(&["metal", "iso", &output, "--cases", &path("none"), "--profile", profile]).refused(&["none"]);
    fs::write(path("good"), "{\"id\": \"a\", \"ops\": [{\"op\": \"vmxoff\"}]}\n").expect("a file");
    vmcs(&["metal", "iso", &output, "--cases", &path("good"), "--profile", "8086"]).refused(&["8086"]);
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 2);
    // The cases' valid images are those of a processor.
    let ran = vmcs(&["metal", "iso", &output, "--cases", &path("cases")]);
    assert!(ran.status == 2 && ran.err.contains("--profile"), "{ran:?}");
}

#[test]
fn what_is_no_serial_line_is_refused() {
    let diff = |target: &str| vmcs(&["diff", "--target", target, "--cases", "1"]);
    diff("metal:/nonexistent/tty").refused(&["opening /nonexistent/tty", "No such file"]);
    diff("metal:/dev/null").refused(&["opening /dev/null"]);
    for wrong in ["metal:", "metal:/dev/ttyS0@fast"] {
        let ran = diff(wrong);
        assert!(ran.status == 2 && ran.err.contains(wrong), "{ran:?}");
    }
}
