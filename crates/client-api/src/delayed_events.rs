//! Delayed events (MSC4140): a module for each generation of the API. A door maps names and errors, and knows nothing else.

pub(crate) mod query;

use crate::routes::Routes;

pub(crate) fn routes(_: &mut Routes) {}
