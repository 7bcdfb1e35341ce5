//! Which cases of a stream were observed, and how they were judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CampaignReport;

/// Cases of a stream that belong together: reports are put together at its multiples only, so that they are the same
/// however many machines were at work.
pub(super) const CHUNK: u64 = 1024;

/// A run of cases that were observed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObservedCases {
    /// The number of the first case.
    pub(super) first: u64,
    /// What came of it and those after it.
    pub(super) report: CampaignReport,
}

impl ObservedCases {
    fn end(&self) -> u64 {
        self.first + self.report.cases
    }
}

/// All cases before one number, and pieces behind it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    start: CampaignReport,
    /// By the number of the first case.
    pieces: BTreeMap<u64, ObservedCases>,
    /// So many disagreements end the campaign.
    most: Option<u64>,
}

impl Done {
    /// `start` is about the first cases of the stream, `pieces` about later ones in their order. `None` if a case is in
    /// two of them.
    pub(super) fn new(start: CampaignReport, pieces: Vec<ObservedCases>) -> Option<Self> {
        let mut done = Self { start, pieces: BTreeMap::new(), most: None };
        let mut end = done.start.cases;
        for piece in &pieces {
            if piece.first < end {
                return None;
            }
            end = piece.end();
        }
        done.pieces = pieces.into_iter().map(|piece| (piece.first, piece)).collect();
        done.join();
        Some(done)
    }

    /// Ends the campaign with the chunk in which the disagreements are `most`.
    pub(super) fn end_after(&mut self, most: Option<u64>) {
        self.most = most;
        self.join();
    }

    /// Adds a piece of cases that were not there yet.
    pub(super) fn add(&mut self, piece: ObservedCases) {
        if !self.enough() {
            self.pieces.insert(piece.first, piece);
            self.join();
        }
    }

    /// Takes the pieces that follow the start without a gap.
    fn join(&mut self) {
        while !self.enough()
            && let Some(piece) = self.pieces.remove(&self.start.cases)
        {
            self.start.append(piece.report);
        }
        if self.enough() {
            self.pieces.clear();
        }
    }

    /// Whether the disagreements are as many as were asked for.
    pub(super) fn enough(&self) -> bool {
        self.most.is_some_and(|most| self.start.disagreed >= most) && self.start.cases.is_multiple_of(CHUNK)
    }

    /// Number of the first case that is not done.
    pub(super) fn start(&self) -> u64 {
        self.start.cases
    }

    /// Cases that were observed.
    pub(super) fn cases(&self) -> u64 {
        self.start.cases + self.pieces.values().map(|piece| piece.report.cases).sum::<u64>()
    }

    /// The runs of cases behind the start that are done: first case and the one after the last.
    pub(super) fn later(&self) -> Vec<(u64, u64)> {
        self.pieces.values().map(|piece| (piece.first, piece.end())).collect()
    }

    /// The report on what was observed.
    pub(super) fn report(&self) -> CampaignReport {
        let mut report = self.start.clone();
        self.pieces.values().for_each(|piece| report.append(piece.report.clone()));
        report
    }

    /// What [`Done::new`] takes.
    pub(super) fn parts(&self) -> (&CampaignReport, Vec<&ObservedCases>) {
        (&self.start, self.pieces.values().collect())
    }
}
