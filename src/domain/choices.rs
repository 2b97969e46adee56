//! Closed lists of names: enums without data, of which one can also ask for all.

/// Declares an enum without data, written by its variants' names in JSON and by their index in the binary form, so that
/// variants are only ever appended.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident,)* })*) => {$(
        $(#[$meta])*
        ///
        /// Append only: the binary form is the index of the variant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode)]
        #[allow(missing_docs, reason = "most of these names say all there is to say")]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// All of them, in the order of the binary form.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, as written in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }
    )*};
}

pub(super) use choices;
