"""Who is who in a shop: identity, authority, roster, joining, TLS contexts, and their store on disk (see TRUST.md)."""
