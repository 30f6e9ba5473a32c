// What a change of the cluster's CA configuration makes of its root: nothing, another way to sign below it, or the beginning
// of a rotation to another root. Swarm's rules and texts.

import type { Cluster, RootCa } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'
import { createRootCa, crossSign } from '../../lib/x509-node.ts'
import { type ExternalSigner, externalUrls } from './external-ca.ts'
import { checkGivenRoot, normalizedPem } from './given-root.ts'

export interface CaChange {
  readonly cluster: Cluster
  /** as it is to be, with the signing certificate and key that came with the request */
  readonly wanted: SwarmSpec
  readonly external: ExternalSigner
  readonly wallMs: number
  readonly random: Random
}

interface Root {
  readonly certPem: string
  /** empty: an external CA has it */
  readonly keyPem: string
}

/**
 * The root as it is to be; the same object where nothing changes.
 * @throws {CodedError} INVALID_ARGUMENT
 */
export async function changedRootCa(change: CaChange): Promise<RootCa> {
  const { cluster, wanted, wallMs, random } = change
  const { rootCa } = cluster
  const { SigningCACert = '', SigningCAKey = '', ForceRotate = 0 } = wanted.CAConfig ?? {}
  if (SigningCAKey && !SigningCACert) {
    throw invalidArgument('if a signing CA key is provided, the signing CA cert must also be provided')
  }
  const current = normalizedPem(rootCa.certPem)
  const isCurrent = SigningCACert !== '' && normalizedPem(SigningCACert) === current
  if (!rootCa.keyPem && !(isCurrent && SigningCAKey)) await requireExternal(change, current, 'current')

  if (!SigningCACert) {
    if (ForceRotate !== (rootCa.lastForcedRotation ?? 0)) {
      return begin(change, createRootCa({ wallMs, random }), ForceRotate)
    }
    const { rotation } = rootCa
    if (rotation && !rotation.keyPem) await requireExternal(change, rotation.certPem, 'next')
    return rootCa
  }

  const given = { certPem: checkGivenRoot(SigningCACert, SigningCAKey, wallMs), keyPem: SigningCAKey }
  if (!SigningCAKey) await requireExternal(change, given.certPem, 'desired')
  if (isCurrent) {
    // Back to the root that still is: nodes return to it by themselves.
    const { rotation: _given, ...rest } = rootCa
    return { ...rest, keyPem: SigningCAKey, lastForcedRotation: ForceRotate }
  }
  if (SigningCAKey && samePem(SigningCAKey, rootCa.keyPem)) {
    throw invalidArgument('Cannot update to a cert with an identical key')
  }
  if (rootCa.rotation && normalizedPem(rootCa.rotation.certPem) === given.certPem) {
    return { ...rootCa, rotation: { ...rootCa.rotation, keyPem: SigningCAKey }, lastForcedRotation: ForceRotate }
  }
  return begin(change, given, ForceRotate)
}

/** A rotation that is under way is given up for this one: nodes trust the current root all the while. */
async function begin(change: CaChange, next: Root, lastForcedRotation: number): Promise<RootCa> {
  const { rootCa } = change.cluster
  const crossSignedPem = await crossSigned(change, next)
  return { ...rootCa, rotation: { ...next, crossSignedPem }, lastForcedRotation }
}

async function crossSigned({ cluster, wanted, external, random }: CaChange, next: Root): Promise<string> {
  const { certPem, keyPem } = cluster.rootCa
  if (!keyPem && !next.keyPem) {
    throw invalidArgument('rotating from one external CA to a different external CA is not supported')
  }
  try {
    if (keyPem) return crossSign({ root: { certPem, keyPem }, nextPem: next.certPem, random })
    return normalizedPem(await external.crossSign(externalUrls(wanted, certPem, certPem), [certPem], next))
  } catch (error) {
    const why = errorCode(error) === undefined ? '' : `: ${errorMessage(error)}`
    throw managerRefusal('UNKNOWN', `unable to generate a cross-signed certificate for root rotation${why}`)
  }
}

async function requireExternal(
  { cluster, wanted, external }: CaChange,
  certPem: string,
  which: 'current' | 'next' | 'desired',
): Promise<void> {
  for (const url of externalUrls(wanted, certPem, cluster.rootCa.certPem)) {
    try {
      await external.reach(url, certPem)
      return
    } catch (error) {
      if (errorCode(error) !== 'EXTERNAL_CA') throw error
    }
  }
  throw invalidArgument(
    `there must be at least one valid, reachable external CA corresponding to the ${which} CA certificate`,
  )
}

function samePem(a: string, b: string): boolean {
  return a.replace(/\s/g, '') === b.replace(/\s/g, '')
}
