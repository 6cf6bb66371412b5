//! The names of one log after each fork: `example.com/topupd`, then `example.com/topupd/2`, and so on.

use super::key::{KeyError, KeyName};

/// Which origin of a log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    own: KeyName,
    /// 1 for the first.
    pub number: u32,
}

impl Origin {
    /// An origin of the log with the name `own`; none where it is of another log.
    pub fn of(origin: &KeyName, own: &KeyName) -> Option<Self> {
        let of = |number| Some(Self { own: own.clone(), number });
        match origin.as_str().strip_prefix(own.as_str())? {
            "" => of(1),
            rest => {
                let number = rest.strip_prefix('/')?;
                let read: u32 = number.parse().ok()?;
                if read >= 2 && read.to_string() == number { of(read) } else { None }
            }
        }
    }

    /// The origin of a log without a key, whose first name ends with `/1`.
    pub fn unsigned(origin: &KeyName) -> Option<Self> {
        let (own, number) = origin.as_str().rsplit_once('/')?;
        Some(Self { own: own.parse().ok()?, number: number.parse().ok()? })
    }

    /// The log's own name, without the number.
    pub const fn own(&self) -> &KeyName {
        &self.own
    }

    /// The one with this number.
    ///
    /// # Errors
    /// Where it is longer than a name can be.
    pub fn name(&self, number: u32) -> Result<KeyName, KeyError> {
        if number < 2 { Ok(self.own.clone()) } else { format!("{}/{number}", self.own).parse() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_a_log_and_of_others() {
        let own: KeyName = "example.com/topupd".parse().unwrap();
        let number = |text: &str| Origin::of(&text.parse().unwrap(), &own).map(|o| o.number);
        assert_eq!(number("example.com/topupd"), Some(1));
        assert_eq!(number("example.com/topupd/2"), Some(2));
        assert_eq!(number("example.com/topupd/10"), Some(10));
        for other in [
            "example.com/topupd/1",
            "example.com/topupd/0",
            "example.com/topupd/02",
            "example.com/topupd/-2",
            "example.com/topupd/",
            "example.com/topupd2",
            "example.com/topup",
            "example.com/topupd/2/2",
            "example.com/topupd/99999999999",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
        let first = Origin::of(&own, &own).unwrap();
        assert_eq!(first.name(2).unwrap().as_str(), "example.com/topupd/2");
        assert_eq!(first.name(1).unwrap(), own);
        let unsigned = Origin::unsigned(&"topupd/testnet/0a/1".parse().unwrap()).unwrap();
        assert_eq!(unsigned.name(2).unwrap().as_str(), "topupd/testnet/0a/2");
    }
}
