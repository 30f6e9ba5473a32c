// A root that a user brings along: whether it can be the root of a cluster, with Swarm's texts.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { invalidArgument } from '../../api/validation/refusal.ts'
import { errorMessage } from '../../lib/errors.ts'
import { validityOf } from '../../lib/x509-node.ts'

const YEAR_MS = 365 * 24 * 3_600_000
const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g
const MIN_RSA_BITS = 2048

/** The certificates alone, each line as it is meant: two texts of one certificate are one text. */
export function normalizedPem(pem: string): string {
  const blocks = pem.match(PEM_BLOCK) ?? []
  return blocks
    .map(
      (block) =>
        `${block
          .trim()
          .split(/\s*\n\s*/)
          .join('\n')}\n`,
    )
    .join('')
}

/**
 * @param keyPem empty: an external CA has it
 * @returns the certificate, normalized
 * @throws {CodedError} INVALID_ARGUMENT
 */
export function checkGivenRoot(certPem: string, keyPem: string, wallMs: number): string {
  const pem = normalizedPem(certPem)
  const count = pem.split('-----BEGIN').length - 1
  if (count === 0) throw invalidArgument('no valid root CA certificates found')
  if (count > 1) throw invalidArgument('the desired CA certificate cannot contain multiple certificates')
  let root: X509Certificate
  try {
    root = new X509Certificate(pem)
  } catch {
    throw invalidArgument('could not parse the desired CA certificate')
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = root.publicKey
  if (type !== 'ec' && type !== 'rsa') throw invalidArgument('unknown or unsupported certificate public key algorithm')
  if (type === 'rsa' && (details?.modulusLength ?? 0) < MIN_RSA_BITS)
    throw invalidArgument('unsupported RSA key parameters')
  if (!root.ca || !root.checkIssued(root) || !root.verify(root.publicKey)) {
    throw invalidArgument('error while validating Root CA Certificate: x509: certificate signed by unknown authority')
  }
  const { fromMs, untilMs } = validityOf(root)
  if (fromMs > wallMs || untilMs < wallMs) {
    throw invalidArgument(
      'error while validating Root CA Certificate: x509: certificate has expired or is not yet valid',
    )
  }
  if (untilMs < wallMs + YEAR_MS) throw invalidArgument('CA certificate expires too soon')
  if (keyPem !== '') checkKey(root, keyPem)
  return pem
}

function checkKey(root: X509Certificate, keyPem: string): void {
  let fits: boolean
  try {
    fits = root.checkPrivateKey(createPrivateKey(keyPem))
  } catch (error) {
    // The parser's words, which never quote the key.
    throw invalidArgument(`malformed private key: ${errorMessage(error)}`)
  }
  if (!fits) throw invalidArgument('certificate key mismatch')
}
