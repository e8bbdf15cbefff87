"""Files sealed with age (age-encryption.org/v1): by recipients or by passphrase, streamed, readable by any age tool."""
