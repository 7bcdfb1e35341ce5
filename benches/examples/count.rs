//! Judges the images of the bench `model_check` a given number of times, for tools that count instructions:
//! `count all|first valid|one_violation|flipped TIMES`.

use std::hint::black_box;

use vmcs_benches::Images;
use vmcs_model::Vmcs;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let images = Images::of_sapphire_rapids();
    let parsed = match &arguments[..] {
        [mode, case, times] => cases(&images, case).zip(times.parse().ok()).map(|(cases, times)| (mode, cases, times)),
        _ => None,
    };
    let Some((mode, cases, times)) = parsed else {
        eprintln!("usage: count all|first valid|one_violation|flipped TIMES");
        std::process::exit(2);
    };
    let attempt = black_box(images.attempt());
    for vmcs in cases.iter().cycle().take(times) {
        if mode == "first" {
            black_box(attempt.on(*black_box(vmcs), &images.memory).first_violation());
        } else {
            black_box(attempt.on(*black_box(vmcs), &images.memory).violations());
        }
    }
}

fn cases<'a>(images: &'a Images, name: &str) -> Option<Vec<&'a Vmcs>> {
    match name {
        "valid" => Some(vec![&images.valid]),
        "one_violation" => Some(vec![&images.one_violation]),
        "flipped" => Some(images.flipped.iter().collect()),
        _ => None,
    }
}
