//! Between rows and types: reading checks, so that a changed or foreign value is an error that
//! names its table and column, never a guess.

use std::fmt::Display;
use std::str::FromStr;

use alloy::primitives::{Address, B256, U256};
use sqlx::{Postgres, Sqlite, Type};

use super::db::Row;
use super::errors::StoreError;
use crate::domain::ids::BlockRef;
use crate::domain::money::RawAmount;

impl Row {
    fn cell<T>(&self, table: &'static str, column: &str) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> sqlx::Decode<'r, Postgres>
            + Type<Postgres>,
    {
        self.get(column).map_err(|e| corrupt(table, column, &e.to_string()))
    }

    pub(super) fn bytes(&self, table: &'static str, column: &str) -> Result<Vec<u8>, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn int(&self, table: &'static str, column: &str) -> Result<i64, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn opt_int(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<Option<i64>, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn text(&self, table: &'static str, column: &str) -> Result<String, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn opt_text(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<Option<String>, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn opt_bytes(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.cell(table, column)
    }

    pub(super) fn b256(&self, table: &'static str, column: &str) -> Result<B256, StoreError> {
        let bytes = self.bytes(table, column)?;
        B256::try_from(bytes.as_slice()).map_err(|_| corrupt(table, column, "not 32 bytes"))
    }

    pub(super) fn address(&self, table: &'static str, column: &str) -> Result<Address, StoreError> {
        let bytes = self.bytes(table, column)?;
        Address::try_from(bytes.as_slice()).map_err(|_| corrupt(table, column, "not 20 bytes"))
    }

    pub(super) fn amount(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<RawAmount, StoreError> {
        let word = self.b256(table, column)?;
        Ok(RawAmount(U256::from_be_bytes(word.0)))
    }

    pub(super) fn opt_amount(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<Option<RawAmount>, StoreError> {
        match self.opt_bytes(table, column)? {
            None => Ok(None),
            Some(_) => self.amount(table, column).map(Some),
        }
    }

    pub(super) fn opt_address(
        &self,
        table: &'static str,
        column: &str,
    ) -> Result<Option<Address>, StoreError> {
        match self.opt_bytes(table, column)? {
            None => Ok(None),
            Some(_) => self.address(table, column).map(Some),
        }
    }

    pub(super) fn uint(&self, table: &'static str, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.int(table, column)?).map_err(|_| corrupt(table, column, "negative"))
    }

    pub(super) fn uint32(&self, table: &'static str, column: &str) -> Result<u32, StoreError> {
        u32::try_from(self.int(table, column)?)
            .map_err(|_| corrupt(table, column, "not an unsigned 32-bit number"))
    }

    pub(super) fn uint8(&self, table: &'static str, column: &str) -> Result<u8, StoreError> {
        u8::try_from(self.int(table, column)?).map_err(|_| corrupt(table, column, "not a byte"))
    }

    pub(super) fn parsed<T>(&self, table: &'static str, column: &str) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(table, column)?;
        text.parse().map_err(|e: T::Err| corrupt(table, column, &e.to_string()))
    }

    pub(super) fn block_ref(&self, table: &'static str) -> Result<BlockRef, StoreError> {
        Ok(BlockRef {
            number: self.uint(table, "block_number")?,
            hash: self.b256(table, "block_hash")?,
        })
    }
}

pub(super) fn corrupt(table: &'static str, column: &str, why: &str) -> StoreError {
    StoreError::Corrupt { table, column: column.to_owned(), why: why.to_owned() }
}

/// A height, count or chain id as the databases store it.
///
/// # Errors
/// Beyond `i64`: no real chain goes there, so it is refused rather than wrapped.
pub(super) fn to_int(number: u64, what: &'static str) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Impossible(format!("{what} {number} is too large")))
}

/// An amount as 32 big-endian bytes.
pub(super) fn amount_bytes(amount: RawAmount) -> Vec<u8> {
    amount.0.to_be_bytes::<32>().to_vec()
}
