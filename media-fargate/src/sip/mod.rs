//! The trunk: calls placed on an app's SIP provider.

