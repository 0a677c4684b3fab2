import { BadRequestException, Controller, Get, Header, Query } from '@nestjs/common';
import { setTimeout as wait } from 'node:timers/promises';
import { Config } from './config';

const LONGEST_SECONDS = 300;

@Controller('slow')
export class SlowController {
  constructor(private readonly config: Config) {}

  /** Waits and then answers: something that is in flight when a release is replaced. */
  @Get()
  @Header('Cache-Control', 'no-store')
  async slow(@Query('seconds') text = '5'): Promise<{ seconds: number; release: string; colour: string }> {
    const seconds = Number(text);
    if (!(seconds >= 0 && seconds <= LONGEST_SECONDS)) throw new BadRequestException(`seconds is not from 0 to ${LONGEST_SECONDS}`);
    await wait(seconds * 1_000);
    return { seconds, release: this.config.release, colour: this.config.colour };
  }
}
