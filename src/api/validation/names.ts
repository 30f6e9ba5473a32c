// What objects may be called, with Swarm's texts.

import { invalidArgument } from './refusal.ts'

const DNS_NAME = /^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$/
const FILE_NAME = /^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$/
const LONGEST_DNS_NAME = 63
const LONGEST_FILE_NAME = 64

/** Services and networks. The length is tested first: the pattern backtracks on long texts. */
export function validateDnsName(name: string | undefined): void {
  if (!name) throw invalidArgument('meta: name must be provided')
  if (name.length <= LONGEST_DNS_NAME && DNS_NAME.test(name)) return
  if (!/^[a-zA-Z0-9_-]*[a-zA-Z0-9]$/.test(name) || !/^[a-zA-Z0-9]/.test(name)) {
    throw invalidArgument('name must be valid as a DNS name component')
  }
  throw invalidArgument('name must be 63 characters or fewer')
}

/** Secrets and configs. */
export function validateFileName(name: string | undefined): void {
  if (!name) throw invalidArgument('name must be provided')
  if (name.length > LONGEST_FILE_NAME || !FILE_NAME.test(name)) {
    throw invalidArgument(
      'invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]',
    )
  }
}
