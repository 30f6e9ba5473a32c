// `swarmctl swarm ca`: shows the trust root, or rotates to a new one and waits until every node has it.

import { createHash } from 'node:crypto'
import { sleep } from '../../lib/clock.ts'
import type { NodeJson, SwarmJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Command, type Context } from '../command.ts'
import { type Flags, switchType } from '../flags.ts'
import { PROGRAM } from '../help.ts'
import { ProgressDisplay } from '../output/progress-display.ts'
import { caFlags, changedCaConfig, pemFileType, readPem } from './flags.ts'
import { updateSwarm } from './update-swarm.ts'

const POLL_MS = 200

function checkFlags(flags: Flags): void {
  if (!flags.on('rotate')) {
    const lonely = ['ca-cert', 'ca-key', 'cert-expiry', 'external-ca'].find((name) => flags.changed(name))
    if (lonely) throw new CliError(`\`--${lonely}\` flag requires the \`--rotate\` flag to update the CA`)
    return
  }
  if (flags.changed('external-ca') && !flags.changed('ca-cert')) {
    throw new CliError(
      "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - to add an external CA with the current root CA certificate, use the `update` command instead",
    )
  }
  if (flags.changed('ca-cert') && !flags.changed('external-ca') && !flags.changed('ca-key')) {
    throw new CliError('the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well')
  }
}

async function run(context: Context, flags: Flags): Promise<void> {
  checkFlags(flags)
  const client = await context.client()
  if (!flags.on('rotate')) return printTrustRoot(context, await client.json<SwarmJson>('GET', '/swarm'))
  const cert = flags.changed('ca-cert') ? readPem(flags.text('ca-cert')) : ''
  const key = flags.changed('ca-key') ? readPem(flags.text('ca-key')) : ''
  await updateSwarm(client, ({ Spec }) => {
    const config = changedCaConfig(Spec.CAConfig, flags, cert)
    const rotate = cert === '' && key === '' ? { ForceRotate: (config.ForceRotate ?? 0) + 1 } : {}
    return { ...Spec, CAConfig: { ...config, SigningCACert: cert, SigningCAKey: key, ...rotate } }
  })
  if (flags.on('detach')) return
  const interrupted = await follow(context, client, flags.on('quiet'))
  if (!interrupted) printTrustRoot(context, await client.json<SwarmJson>('GET', '/swarm'))
}

function printTrustRoot(context: Context, swarm: SwarmJson): void {
  const root = swarm.TLSInfo?.TrustRoot
  if (!root) throw new CliError('No CA information available')
  context.stdout.write(`${root.trim()}\n`)
}

/** Shows how many nodes have the new root until all have it. True if Ctrl-C ended it. */
async function follow(context: Context, client: ApiClient, quiet: boolean): Promise<boolean> {
  const display = quiet ? undefined : new ProgressDisplay(context.stdout)
  const interrupted = context.interrupted()
  for (;;) {
    const swarm = await client.json<SwarmJson & { RootRotationInProgress?: boolean }>('GET', '/swarm')
    const nodes = await client.json<NodeJson[]>('GET', '/nodes')
    const wanted = swarm.TLSInfo ?? {}
    const count = (test: (info: NonNullable<SwarmJson['TLSInfo']>) => boolean) =>
      nodes.filter((node) => test(node.Description?.TLSInfo ?? {})).length
    const certs = count(
      (info) =>
        info.CertIssuerPublicKey === wanted.CertIssuerPublicKey && info.CertIssuerSubject === wanted.CertIssuerSubject,
    )
    const roots =
      certs === nodes.length && !swarm.RootRotationInProgress ? count((info) => info.TrustRoot === wanted.TrustRoot) : 0
    const digest = createHash('sha256')
      .update(wanted.TrustRoot ?? '')
      .digest('hex')
    display?.update({ id: 'desired root digest', action: `sha256:${digest}` })
    const bar = (id: string, action: string, current: number) =>
      display?.update({ id, action, current, total: nodes.length, units: 'nodes' })
    bar('  rotated TLS certificates', '', certs)
    bar('  rotated CA certificates', ' ', roots)
    if (roots === nodes.length) return false
    await sleep(context.clock, POLL_MS, interrupted)
    if (interrupted.aborted) {
      display?.message('Operation continuing in background.')
      display?.message(`Use \`${PROGRAM} node ls --format "{{.Hostname}} {{.TLSStatus}}"\` to check progress.`)
      return true
    }
  }
}

export const caCommand: Command = {
  name: 'ca',
  usage: '[OPTIONS]',
  summary: 'Display and rotate the root CA',
  examples: `  ${PROGRAM} swarm ca --rotate\n  ${PROGRAM} swarm ca --rotate --ca-cert root.pem --ca-key root.key`,
  flags: [
    ...caFlags,
    {
      name: 'ca-cert',
      type: pemFileType,
      help: 'Path to the PEM-formatted root CA certificate to use for the new cluster',
    },
    { name: 'ca-key', type: pemFileType, help: 'Path to the PEM-formatted root CA key to use for the new cluster' },
    {
      name: 'detach',
      short: 'd',
      type: switchType,
      help: 'Exit immediately instead of waiting for the root rotation to converge',
    },
    { name: 'quiet', short: 'q', type: switchType, help: 'Suppress progress output' },
    {
      name: 'rotate',
      type: switchType,
      help: 'Rotate the swarm CA - if no certificate or key are provided, new ones will be generated',
    },
  ],
  operands: { min: 0, max: 0 },
  run,
}
