//! The setting of a campaign: the processor, the session and the deviations with which its cases are executed and judged.

use vmcs_case::Session;

use crate::deviations::Deviations;
use crate::generate::TestProcessor;

/// What the cases of a campaign are executed in and judged by.
#[derive(Clone, Copy, Debug)]
pub struct CampaignSetting<'a> {
    /// The target's processor.
    pub processor: &'a TestProcessor,
    /// What the cases share.
    pub session: &'a Session,
    /// What is known of implementations.
    pub deviations: &'a Deviations,
}
