//! Reading dumps: undamaged ones as they are, and of damaged ones nothing that is not there.

mod claims;
mod cuts;
mod damage;
mod print;
mod printed;
mod reported;
