//! The launch digest engine.

use snp_abi::{Gpa, LaunchDigest, PageType, VmplPermissions};

use crate::{LaunchPage, LaunchPlan};

/// Extends a launch digest page by page.
#[derive(Clone, Debug, Default)]
pub struct DigestEngine {
    digest: LaunchDigest,
}

/// One measured page and the digest after it.
#[derive(Clone, Copy, Debug)]
pub struct DigestStep {
    /// Where the page is.
    pub gpa: Gpa,
    /// Its type.
    pub page_type: PageType,
    /// CONTENTS of its PAGE_INFO.
    pub contents: [u8; 48],
    /// The digest after it.
    pub digest: LaunchDigest,
}

impl DigestEngine {
    /// Extends by a whole page operation.
    pub fn page(&mut self, _page: &LaunchPage) {
        todo!()
    }
    /// Extends the digest by one PAGE_INFO.
    pub fn extend(
        &mut self,
        _page_type: PageType,
        _gpa: Gpa,
        _contents: [u8; 48],
        _imi_page: bool,
        _permissions: [VmplPermissions; 3],
    ) -> LaunchDigest {
        todo!()
    }
    /// The digest so far.
    pub fn digest(&self) -> LaunchDigest {
        self.digest
    }
}

/// Predicts.
pub fn predict(_plan: &LaunchPlan) -> LaunchDigest {
    todo!()
}

/// Predicts page by page.
pub fn predict_steps(_plan: &LaunchPlan, _step: &mut dyn FnMut(DigestStep)) -> LaunchDigest {
    todo!()
}
