//! The setting of a campaign: the processor, the session and the deviations with which its cases are executed and judged.

use vmcs_case::Session;

use crate::deviations::Deviations;
use crate::generate::TestProcessor;

/// The processor, the session and the deviations with which the cases of a campaign are executed and judged.
#[derive(Clone, Copy, Debug)]
pub struct CampaignSetting<'a> {
    /// The target's processor.
    pub processor: &'a TestProcessor,
    /// The session that the cases share.
    pub session: &'a Session,
    /// The known deviations of implementations.
    pub deviations: &'a Deviations,
}
