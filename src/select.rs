//! Pure tag selection.

/// `select:` of an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {}
