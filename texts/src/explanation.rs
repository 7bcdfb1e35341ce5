//! The answers to a text: why each of its entries failed.

use vmcs_model::Capabilities;

use crate::diagnosis::{Answer, Manner, Section};
use crate::known_processor::KnownProcessor;
use crate::question::Question;

/// The answer about one entry.
#[derive(Clone, Debug)]
pub struct Explained {
    /// 0 if no check is violated, 1 if one is, 3 if a failed entry is reported that nothing explains.
    pub status: u8,
    /// The answer for people: its first section is the first sentence, what happened and the most likely cause.
    pub sections: Vec<Section>,
    /// The answer for programs.
    pub answer: Answer,
}

/// The answers about all entries of a text, failed ones first. What the text says of the processor counts unless `processor`
/// says it; `fix` asks for changes after which the state enters.
///
/// ```
/// use vmcs_texts::diagnosis::Manner;
/// use vmcs_texts::explanation::explain;
/// use vmcs_texts::input::Log;
/// use vmcs_texts::question::Question;
///
/// let log = Log::read("KVM: entry failed, hardware error 0x80000021".as_bytes()).expect("it is text");
/// let question = Question::new(log, None, None).expect("there is something to explain");
/// let answers = explain(&question, None, Manner::default(), false);
/// assert_eq!(answers[0].answer.answer, "The guest state was refused (exit reason 33)");
/// ```
#[must_use]
pub fn explain(question: &Question, processor: Option<&KnownProcessor>, manner: Manner, fix: bool) -> Vec<Explained> {
    let said = || KnownProcessor::of_lines(question.lines.iter().map(|line| line.text.as_str()));
    let known = processor.cloned().unwrap_or_else(said);
    let entries = question.entries(known.revision());
    let several = entries.len() > 1;
    let mut before: Vec<(usize, Vec<Section>)> = Vec::new();
    let explained = entries.map(|(number, entry)| {
        let capabilities = Capabilities::new(&entry.processor(&known.profile));
        let guess = known.guess.as_ref().map(|guess| Capabilities::new(&entry.processor(guess)));
        let mut diagnosis = entry.diagnose(&capabilities);
        if let Some(guess) = &guess {
            diagnosis = diagnosis.guessing(guess);
        }
        let fix = fix.then(|| diagnosis.fix());
        let mut sections = diagnosis.sections(&known.source, manner, fix.as_ref());
        let mut answer = diagnosis.answer(&known.source, fix.as_ref());
        if let Some(whole) = entry.taking_doubtful_values() {
            whole.diagnose(&capabilities).add_to(&diagnosis, &mut sections, &mut answer);
        }
        if several {
            sections = numbered(number, entry.dump.line, &mut before, sections);
        }
        Explained { status: answer.status, sections, answer }
    });
    explained.collect()
}

/// The status of all answers together: a violation weighs more than an entry that nothing explains.
#[must_use]
pub fn status(answers: &[Explained]) -> u8 {
    let any = |status| answers.iter().any(|answer| answer.status == status);
    if any(1) { 1 } else { answers.iter().map(|answer| answer.status).max().unwrap_or(0) }
}

/// The answer to one of several dumps: with its number, and short if it was said before.
fn numbered(
    number: usize,
    line: usize,
    before: &mut Vec<(usize, Vec<Section>)>,
    mut sections: Vec<Section>,
) -> Vec<Section> {
    // The last section says in which line the dump begins.
    let body = sections[..sections.len() - 1].to_vec();
    let place = if line > 0 { format!("Dump {number} (line {line})") } else { format!("Dump {number}") };
    if let Some((same, _)) = before.iter().find(|(_, said)| *said == body) {
        return vec![Section::Paragraph(format!("{place}: the same as dump {same}."))];
    }
    before.push((number, body));
    if let Some(Section::Paragraph(text)) = sections.first_mut() {
        *text = format!("{place}: {text}");
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Log;

    fn explained(text: &str) -> Explained {
        let question = Question::new(Log::read(text.as_bytes()).expect("text"), None, None).expect("a dump");
        let mut answers = explain(&question, None, Manner::default(), false);
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// The value that ends the longest line of a list may lack digits: what follows from it is said, but not for certain.
    #[test]
    fn what_follows_from_a_value_that_may_be_cut_off_is_perhaps_so() {
        const LIST: &str = "VM_ENTRY_CONTROLS = 0x13ff\nGUEST_CR0 = 0x80050033\nGUEST_TR_ACCESS_RIGHTS = 0x89\n";
        let Explained { status, sections, answer } = explained(&format!("{LIST}GUEST_RFLAGS = 0x2\n"));
        let perhaps = "perhaps TR is not a 64-bit busy TSS: guest_tr_access_rights = 0x89";
        assert!(answer.answer.ends_with(perhaps), "{}", answer.answer);
        assert_eq!(status, 1);
        assert!(matches!(&sections[1], Section::Points { points, .. } if points.len() == 1), "{sections:?}");
        // What is certain comes first.
        let certain = explained(&format!("{LIST}GUEST_RFLAGS = 0x0\n"));
        assert!(certain.answer.answer.ends_with("bit 1 of RFLAGS is 0: guest_rflags = 0x0"), "{certain:?}");
        assert!(matches!(&certain.sections[2], Section::Points { points, .. } if points.len() == 1), "{certain:?}");
        // A longer line shows that the value is whole.
        let whole = explained(&format!("{LIST}GUEST_RFLAGS = 0x2 # this one is longer than all others\n"));
        assert!(!whole.answer.answer.contains("perhaps") && whole.status == 1, "{whole:?}");
    }
}
