//! Open deposits of one stage, page by page. It decides nothing about them.

use crate::domain::chain_rules::ChainRules;
use crate::domain::deposit::Stage;
use crate::domain::ids::BlockRef;
use crate::store::{LeasedStore, OpenDeposit, Store, StoreError};

/// The open deposits of one stage, page by page. What a page's work moves to another stage, or
/// leaves where it is, is passed either way.
pub(in crate::tasks) struct Pages<'a> {
    rules: &'a ChainRules,
    store: &'a Store,
    stage: Stage,
    head: BlockRef,
    after: Option<OpenDeposit>,
}

impl<'a> Pages<'a> {
    pub(in crate::tasks) fn of(
        rules: &'a ChainRules,
        store: &'a LeasedStore,
        stage: Stage,
        head: BlockRef,
    ) -> Self {
        Self { rules, store, stage, head, after: None }
    }

    pub(in crate::tasks) async fn next(&mut self) -> Result<Option<Vec<OpenDeposit>>, StoreError> {
        let (chain, up_to) = (self.rules.id, self.head.number);
        let page = self.store.open_deposits(chain, self.stage, up_to, self.after.as_ref()).await?;
        self.after = page.last().cloned();
        Ok(self.after.is_some().then_some(page))
    }
}
