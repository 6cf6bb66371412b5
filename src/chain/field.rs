//! One value of a node's JSON, as it came: whether it can be read is asked only of what is used.
//!
//! Nodes write the same thing in many shapes, and add fields that nobody asked for. A field that
//! decides nothing is never read, so that no shape of it is an error; one that decides is read
//! strictly, and what could mean two numbers means none.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use alloy::primitives::{Bytes, hex};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Characters of an unreadable value that are shown.
const SHOWN: usize = 24;

/// A value: what is no text, number or flag is as good as not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
    Flag(bool),
}

impl Field<'_> {
    /// A number as JSON-RPC writes it (execution-apis, "Quantities"), leading zeros allowed, or a
    /// number of JSON. Digits in a text without `0x` could be of either base, and are none.
    pub(super) fn number(&self, what: &str, most: u64) -> Result<u64, String> {
        let number = match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => hex_digits(text).and_then(|digits| match digits {
                "" => Some(0),
                digits => u64::from_str_radix(digits, 16).ok(),
            }),
            Self::Absent | Self::Flag(_) => None,
        };
        match number {
            Some(number) if number <= most => Ok(number),
            Some(_) => Err(format!("{what} is too large to be true: {self}")),
            None => Err(format!("{what} is not a number: {self}")),
        }
    }

    /// A value of fixed length: a hash or an address.
    pub(super) fn fixed<T: FromStr>(&self, what: &str) -> Result<T, String> {
        let Self::Text(text) = self else { return Err(format!("{what} cannot be read: {self}")) };
        text.parse().map_err(|_| format!("{what} cannot be read: {self}"))
    }

    /// Bytes; some nodes write nothing, or null, where there are none.
    pub(super) fn bytes(&self, what: &str) -> Result<Bytes, String> {
        match self {
            Self::Absent => Ok(Bytes::new()),
            Self::Text(text) => match hex::decode(text.as_ref()) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(format!("{what} cannot be read: {self}")),
            },
            Self::Number(_) | Self::Flag(_) => Err(format!("{what} cannot be read: {self}")),
        }
    }

    /// True only where it plainly says so.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            Self::Text(text) => text == "true",
            Self::Absent | Self::Number(_) => false,
        }
    }
}

/// The digits of a text in base 16.
pub(super) fn hex_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    // `from_str_radix` would take a sign.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(SHOWN).collect::<String>()),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl<'a> Deserialize<'a> for Field<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'a> Visitor<'a> for Any {
            type Value = Field<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Field<'a>, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Field<'a>, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Field<'a>, E> {
                Ok(Field::Number(number))
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Field<'a>, E> {
                Ok(Field::Flag(flag))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Field<'a>, E> {
                Ok(Field::Absent)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Field<'a>, E> {
                Ok(Field::Absent)
            }
            fn visit_unit<E>(self) -> Result<Field<'a>, E> {
                Ok(Field::Absent)
            }
            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Field<'a>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Absent)
            }
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Field<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Absent)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object of which the named fields are kept, in whatever order. One that stands there twice with
/// different contents says nothing: where it decides, the object is refused by whoever reads it.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, PartialEq, Eq)]
        pub(super) struct $name<'a> { $(pub(super) $field: $kind,)* }

        impl<'a> serde::de::Deserialize<'a> for $name<'a> {
            fn deserialize<D: serde::de::Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
                struct Named;
                impl<'a> serde::de::Visitor<'a> for Named {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'a>>(
                        self,
                        mut map: A,
                    ) -> Result<$name<'a>, A::Error> {
                        $(let mut $field: Option<$kind> = None;)*
                        while let Some(key) = map.next_key::<$crate::chain::field::Field<'a>>()? {
                            let $crate::chain::field::Field::Text(key) = key else { continue };
                            match key.as_ref() {
                                $($key => {
                                    let value = map.next_value()?;
                                    let same = $field.as_ref().is_none_or(|v| *v == value);
                                    $field = Some(if same { value } else { Default::default() });
                                })*
                                _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                            }
                        }
                        Ok($name { $($field: $field.unwrap_or_default(),)* })
                    }
                }
                from.deserialize_map(Named)
            }
        }
    };
}
pub(super) use object;

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    object!(Pair { left: Field<'a> = "left", right: Field<'a> = "right", });

    fn pair(text: &str) -> Pair<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_are_read_in_every_shape_that_means_one_number() {
        for (text, is) in [
            (r#"{"left":"0x1f"}"#, Some(31)),
            (r#"{"left":"0x001F"}"#, Some(31)),
            (r#"{"left":"0X1f"}"#, Some(31)),
            (r#"{"left":"\u0030x1f"}"#, Some(31)),
            (r#"{"left":31}"#, Some(31)),
            (r#"{"left":"0x"}"#, Some(0)),
            (r#"{"left":"0x1f","left":"0x1f"}"#, Some(31)),
            (r#"{"left":"0x1f","left":"0x2f"}"#, None),
            (r#"{"left":"31"}"#, None),
            (r#"{"left":"1f"}"#, None),
            (r#"{"left":"0x+1f"}"#, None),
            (r#"{"left":"0x1g"}"#, None),
            (r#"{"left":-1}"#, None),
            (r#"{"left":3.5}"#, None),
            (r#"{"left":null}"#, None),
            (r#"{"left":{"a":[1]}}"#, None),
            (r#"{"left":["0x1f"]}"#, None),
            (r#"{"left":true}"#, None),
            (r#"{"left":"0x21"}"#, None),
            (r#"{"left":18446744073709551616}"#, None),
            (r#"{"right":"0x1f"}"#, None),
        ] {
            assert_eq!(pair(text).left.number("left", 32).ok(), is, "{text}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_read_whatever_its_shape() {
        let odd = r#"{"x":"\ud800","left":"0x1","y":[{"z":1e400}],"x":null,"right":"0xAb"}"#;
        let read = serde_json::from_str::<Pair<'_>>(odd);
        assert!(read.is_ok(), "{read:?}");
        let read = pair(r#"{"left":"0xab","x":{"left":1},"right":null}"#);
        assert_eq!(read.left.bytes("left").unwrap(), Bytes::from(vec![0xab]));
        assert_eq!(read.right.bytes("right").unwrap(), Bytes::new());
        assert!(read.left.fixed::<B256>("left").unwrap_err().contains("0xab"));
        let upper = format!("{{\"left\":\"0x{}\"}}", "AB".repeat(32));
        assert_eq!(pair(&upper).left.fixed(""), Ok(B256::repeat_byte(0xab)));
    }
}
