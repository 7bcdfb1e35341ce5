//! Finding the Bochs that are on this computer.

use vmcs_case::TargetError;

use super::error::BochsError;
use super::install::BochsInstall;
use super::packages;

/// Every Bochs there is: the installed one and those unpacked by [`packages::unpack`], the oldest version first.
///
/// # Errors
/// An installed Bochs that cannot be used, if there is no other.
pub fn installs() -> Result<Vec<BochsInstall>, TargetError> {
    let mut all = Vec::new();
    let unpacked = packages::unpacked().unwrap_or_default();
    all.extend(unpacked.iter().filter_map(|root| root.open().ok()));
    match BochsInstall::discover() {
        Ok(installed) => all.push(installed),
        Err(error) if matches!(error.machine(), Some(BochsError::Missing)) => {}
        Err(error) if all.is_empty() => return Err(error),
        Err(_) => {}
    }
    all.sort_by_key(|install| install.version);
    Ok(all)
}
