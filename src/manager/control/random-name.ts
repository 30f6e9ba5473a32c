// A name for a service that was created without one, as dockerd gives it: an adjective and a noun.

import type { Random } from '../../lib/random.ts'

const ADJECTIVES =
  'able amber brave bright calm clear clever cosmic crisp curious daring eager early fair fast fine fresh gentle glad grand happy honest jolly keen kind lively lucky mellow merry neat noble patient proud quick quiet ready rosy sharp silent smooth steady sunny swift tidy vivid warm wise witty young zesty'.split(
    ' ',
  )
const NOUNS =
  'acorn anchor arrow badger beacon birch bridge canyon cedar cliff comet coral crane delta dune eagle ember falcon fern fjord forest garden glacier harbor heron island jasmine lagoon lantern maple meadow nebula oak orchid otter pebble pine planet prairie quartz raven reef river sparrow summit thistle tide valley walnut willow'.split(
    ' ',
  )

export function randomName(random: Random, isTaken: (name: string) => boolean): string {
  for (;;) {
    const name = `${ADJECTIVES[random.below(ADJECTIVES.length)]}_${NOUNS[random.below(NOUNS.length)]}`
    const unique = isTaken(name) ? `${name}${random.below(1_000_000)}` : name
    if (!isTaken(unique)) return unique
  }
}
