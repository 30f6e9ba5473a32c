// `swarmctl stack …`

import type { Command, Flag } from '../command.ts'
import { writeConfig } from '../compose/write-config.ts'
import { filterFlag, formatFlag, positiveDurationType, quietFlag, switchType, textType } from '../flags.ts'
import { composeFlags, readCompose } from './compose-input.ts'
import { deployStack, showPlan } from './deploy.ts'
import { listStackServices, listStacks, listStackTasks } from './listings.ts'
import { removeStacks } from './remove.ts'

const pruneFlag: Flag = {
  name: 'prune',
  type: switchType,
  help: 'Prune services, secrets, configs and networks that are no longer referenced',
  since: '1.27',
}

const resolveImageFlag: Flag = {
  name: 'resolve-image',
  type: textType,
  help: 'Query the registry to resolve image digest and supported platforms ("always", "changed", "never")',
  shownDefault: '"always"',
  since: '1.30',
  complete: ['always', 'changed', 'never'],
}

const registryAuthFlag: Flag = {
  name: 'with-registry-auth',
  type: switchType,
  help: 'Send registry authentication details to Swarm agents',
}

export const stackCommands: readonly Command[] = [
  {
    name: 'config',
    usage: '[OPTIONS]',
    summary: 'Outputs the final config file, after doing merges and interpolations',
    examples: '  swarmctl stack config -c base.yml -c production.yml',
    flags: [
      ...composeFlags,
      {
        name: 'skip-interpolation',
        type: switchType,
        help: 'Skip interpolation and output only merged config',
      },
    ],
    operands: { min: 0, max: 0 },
    run: async (context, flags) => {
      const model = await readCompose(context, flags, {
        skipInterpolation: flags.on('skip-interpolation'),
        onWarning: (text) => void context.stderr.write(`${text}\n`),
      })
      context.stdout.write(writeConfig(model))
    },
  },
  {
    name: 'deploy',
    aliases: ['up'],
    usage: '[OPTIONS] STACK [SERVICE...]',
    summary: 'Deploy a new stack or update an existing stack',
    examples: `  swarmctl stack deploy -c compose.yml web
  swarmctl stack deploy -c base.yml -c production.yml --prune web
  swarmctl stack deploy -c compose.yml web api      # its service api alone
  swarmctl stack plan -c compose.yml -o plan.json web    # look first,
  swarmctl stack deploy --plan plan.json          # then do just that`,
    flags: [
      ...composeFlags,
      {
        name: 'detach',
        short: 'd',
        type: switchType,
        help: 'Exit immediately instead of waiting for the stack services to converge',
      },
      {
        name: 'plan',
        type: textType,
        help: 'Deploy what a file of "stack plan --out" says, if nothing has moved since (with --compose-file for new secrets)',
      },
      pruneFlag,
      quietFlag('Suppress progress output'),
      resolveImageFlag,
      {
        name: 'timeout',
        type: positiveDurationType,
        help: 'Give up waiting after this time; the deployment goes on (0 = wait as long as it takes)',
        shownDefault: '0s',
      },
      registryAuthFlag,
    ],
    operands: { min: 0, max: undefined },
    run: deployStack,
  },
  {
    name: 'ls',
    aliases: ['list'],
    usage: '[OPTIONS]',
    summary: 'List stacks',
    examples: '  swarmctl stack ls',
    flags: [formatFlag],
    operands: { min: 0, max: 0 },
    run: listStacks,
  },
  {
    name: 'plan',
    usage: '[OPTIONS] STACK [SERVICE...]',
    summary: 'Show what a deployment would create, change, restart and remove, and change nothing',
    examples: `  swarmctl stack plan -c compose.yml web
  swarmctl stack plan -q -c compose.yml web        # 2: there is something to do
  swarmctl stack plan -c compose.yml --prune --format json web
  swarmctl stack plan -c compose.yml -o plan.json web`,
    flags: [
      ...composeFlags,
      {
        name: 'format',
        type: textType,
        help: 'Print the plan as "text" or "json"',
        shownDefault: '"text"',
        complete: ['text', 'json'],
      },
      { name: 'out', short: 'o', type: textType, help: 'Keep the plan in this file, for "stack deploy --plan"' },
      pruneFlag,
      quietFlag('Print nothing: the exit code says whether there is something to do'),
      resolveImageFlag,
      registryAuthFlag,
    ],
    operands: { min: 1, max: undefined },
    run: showPlan,
  },
  {
    name: 'ps',
    usage: '[OPTIONS] STACK',
    summary: 'List the tasks in the stack',
    examples: '  swarmctl stack ps --filter desired-state=running shop',
    flags: [
      filterFlag,
      formatFlag,
      { name: 'no-resolve', type: switchType, help: 'Do not map IDs to Names' },
      { name: 'no-trunc', type: switchType, help: 'Do not truncate output' },
      quietFlag('Only display task IDs'),
    ],
    operands: { min: 1, max: 1 },
    run: listStackTasks,
  },
  {
    name: 'rm',
    aliases: ['remove', 'down'],
    usage: '[OPTIONS] STACK [STACK...]',
    summary: 'Remove one or more stacks',
    examples: `  swarmctl stack rm shop
  swarmctl stack rm --volumes shop    # and what it has stored`,
    flags: [
      { name: 'detach', short: 'd', type: switchType, help: 'Do not wait for stack removal' },
      {
        name: 'volumes',
        type: switchType,
        help: 'Remove the volumes of the stack on all nodes as well, with what is in them',
      },
    ],
    operands: { min: 1, max: undefined },
    run: removeStacks,
  },
  {
    name: 'services',
    usage: '[OPTIONS] STACK',
    summary: 'List the services in the stack',
    examples: '  swarmctl stack services shop',
    flags: [filterFlag, formatFlag, quietFlag('Only display IDs')],
    operands: { min: 1, max: 1 },
    run: listStackServices,
  },
]
