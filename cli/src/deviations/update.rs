//! `vmcs deviations --update` finds the smallest case of each deviation of a file, and writes the cases into the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};
use vmcs_fuzz::deviations::{Deviation, DeviationId, Deviations, MinimalCase};
use vmcs_fuzz::findings::deviation_cases::{self, Examples};
use vmcs_fuzz::{Generator, Stream};
use vmcs_hw::bochs::{self, BochsInstall};
use vmcs_hw::targets::{Machine, default_model};
use vmcs_machines::MachineChoice;

use crate::error::{CliError, Status};
use crate::target;

/// The seed of the campaigns.
const SEED: u64 = 1;
/// What makes their cases.
const GENERATORS: [Generator; 4] = [Generator::Controls, Generator::State, Generator::Images, Generator::Programs];

/// Looks for the smallest case of each deviation and writes those that were found. A deviation that has a case keeps it,
/// made as small as it gets; only a deviation without one is looked for.
pub(super) fn run(file: &Path, count: u64) -> Result<Status, CliError> {
    let deviations = Deviations::read(file)?;
    let mut found: BTreeMap<DeviationId, MinimalCase> = BTreeMap::new();
    for install in bochs::installs()? {
        for model in models(&install, &deviations) {
            let missing = |deviation: &&Deviation| !found.contains_key(&deviation.id);
            let wanted: Vec<Deviation> = deviations.iter().filter(missing).cloned().collect();
            found.extend(on_machine(&install, &model, &deviations, &wanted, count)?);
        }
    }
    write(file, &found)?;
    let mut without = false;
    for deviation in deviations.iter().filter(|deviation| !found.contains_key(&deviation.id)) {
        let kept = if deviation.case.is_some() { "its case was not asked for or does not show it" } else { "no case" };
        eprintln!("{}: {kept}", deviation.id);
        without = true;
    }
    Ok(Status::found(without))
}

/// The CPU models of a Bochs that are asked: its default, then those that deviations name.
fn models(install: &BochsInstall, deviations: &Deviations) -> Vec<String> {
    let known = install.models().unwrap_or_default();
    let version = install.version.to_string();
    let mut models = vec![default_model(install.version).to_owned()];
    for deviation in deviations.iter() {
        let of_case = deviation.case.iter().filter(|case| case.version == version).map(|case| &case.model);
        for model in of_case.chain(&deviation.models) {
            if known.contains(model) && !models.contains(model) {
                models.push(model.clone());
            }
        }
    }
    models
}

/// The smallest cases of the wanted deviations on one machine.
fn on_machine(
    install: &BochsInstall,
    model: &str,
    deviations: &Deviations,
    wanted: &[Deviation],
    count: u64,
) -> Result<BTreeMap<DeviationId, MinimalCase>, CliError> {
    let version = install.version.to_string();
    let here = |case: &MinimalCase| case.version == version && case.model == model;
    let applies = |deviation: &&Deviation| {
        (deviation.versions.is_empty() || deviation.versions.contains(&version))
            && (deviation.models.is_empty() || deviation.models.iter().any(|known| known == model))
            && deviation.case.as_ref().is_none_or(here)
    };
    let wanted: Vec<&Deviation> = wanted.iter().filter(applies).collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let machine = Machine::Bochs { install: install.clone(), model: model.to_owned() };
    let mut machine = target::tested(&MachineChoice::Hardware(machine))?;
    let mut found = BTreeMap::new();
    let mut examples = Examples::new();
    let mut without = BTreeSet::new();
    for deviation in wanted {
        if deviation.is_about_fields() {
            if deviation.shows_in(&machine.processor.profile) {
                let (version, model) = (version.clone(), model.to_owned());
                let case = MinimalCase { version, model, on: None, start: Default::default(), ops: Vec::new() };
                found.insert(deviation.id.clone(), case);
            }
        } else if let Some(program) = deviation.program() {
            let case = machine.case(&program).map_err(|error| CliError::Usage(format!("{}: {error}", deviation.id)))?;
            examples.insert(deviation.id.clone(), vec![case]);
        } else {
            without.insert(deviation.id.clone());
        }
    }
    let (target, setting) = machine.setting(deviations);
    for generator in GENERATORS {
        if !without.is_empty() {
            let mut stream = Stream::new(generator, SEED);
            deviation_cases::look_for(target, setting, &without, &mut stream, count, &mut examples)?;
        }
    }
    found.extend(deviation_cases::smallest(target, setting, &examples)?);
    eprintln!("Bochs {version} {model}: {}", found.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    Ok(found)
}

/// Writes the cases into the file, which keeps everything else.
fn write(file: &Path, found: &BTreeMap<DeviationId, MinimalCase>) -> Result<(), CliError> {
    let wrong = |message: String| CliError::File { file: file.to_owned(), message };
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string()))?;
    let tables = document.get_mut("deviation").and_then(Item::as_array_of_tables_mut);
    for table in tables.into_iter().flat_map(|tables| tables.iter_mut()) {
        let id = table.get("id").and_then(Item::as_str).map(DeviationId::from);
        if let Some(case) = id.and_then(|id| found.get(&id)) {
            table.insert("case", Item::Table(table_of(case)?));
        }
    }
    fs::write(file, document.to_string()).map_err(|error| wrong(error.to_string()))
}

/// The case as a table, an operation a line.
fn table_of(case: &MinimalCase) -> Result<Table, CliError> {
    let Json::Object(json) = serde_json::to_value(case).map_err(std::io::Error::from)? else { return Ok(Table::new()) };
    let mut table = Table::new();
    for (key, value) in &json {
        match value {
            Json::Array(ops) if ops.is_empty() => {}
            Json::Array(ops) => {
                let mut array = Array::new();
                for op in ops {
                    array.push_formatted(value_of(op).decorated("\n    ", ""));
                }
                array.set_trailing("\n");
                array.set_trailing_comma(true);
                table.insert(key, Item::Value(Value::Array(array)));
            }
            _ if case.ops.is_empty() && key == "start" => {}
            other => {
                table.insert(key, Item::Value(value_of(other)));
            }
        }
    }
    Ok(table)
}

/// A value of an operation.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Object(map) => {
            let table: InlineTable = map.iter().map(|(key, value)| (key.as_str(), value_of(value))).collect();
            Value::InlineTable(table)
        }
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => number.as_i64().unwrap_or_default().into(),
        Json::String(text) => text.as_str().into(),
        Json::Null | Json::Array(_) => Value::Array(Array::new()),
    }
}
