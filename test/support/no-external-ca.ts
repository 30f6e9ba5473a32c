// For clusters whose own root signs: no external CA answers.

import { CodedError } from '../../src/lib/errors.ts'
import type { ExternalSigner } from '../../src/manager/ca/external-ca.ts'

const none = () => Promise.reject(new CodedError('EXTERNAL_CA', 'there is no external CA', { retryable: true }))

export const noExternalCa: ExternalSigner = { reach: none, signNode: none, crossSign: none }
