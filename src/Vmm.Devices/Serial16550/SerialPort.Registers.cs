namespace Vmm.Devices.Serial16550;

// Register numbers and bits of the National Semiconductor PC16550D data sheet, table II.
public sealed partial class SerialPort
{
    private const int FifoLength = 16;

    private const int RegData = 0;      // RBR, THR; divisor low while LCR.DLAB
    private const int RegInterrupt = 1; // IER; divisor high while LCR.DLAB
    private const int RegIdent = 2;     // IIR for reads, FCR for writes
    private const int RegLine = 3;      // LCR
    private const int RegModem = 4;     // MCR
    private const int RegLineStatus = 5;
    private const int RegModemStatus = 6;
    private const int RegScratch = 7;

    private const byte IerReceive = 0x01;
    private const byte IerTransmit = 0x02;
    private const byte IerLine = 0x04;
    private const byte IerModem = 0x08;

    private const byte IirModem = 0x00;
    private const byte IirNone = 0x01;
    private const byte IirTransmit = 0x02;
    private const byte IirReceive = 0x04;
    private const byte IirLine = 0x06;
    private const byte IirTimeout = 0x0c;
    private const byte IirIdentMask = 0x0f;
    private const byte IirFifoEnabled = 0xc0;

    private const byte FcrEnable = 0x01;
    private const byte FcrResetReceive = 0x02;
    private const byte FcrResetTransmit = 0x04;
    private const byte FcrStored = 0xc9;

    private const byte LcrBreak = 0x40;
    private const byte LcrDivisorLatch = 0x80;

    private const byte McrDtr = 0x01;
    private const byte McrRts = 0x02;
    private const byte McrOut1 = 0x04;
    private const byte McrOut2 = 0x08;
    private const byte McrLoop = 0x10;

    private const byte LsrDataReady = 0x01;
    private const byte LsrOverrun = 0x02;
    private const byte LsrBreak = 0x10;
    private const byte LsrHoldingEmpty = 0x20;
    private const byte LsrTransmitterEmpty = 0x40;
    private const byte LsrAnyError = 0x1e;

    private const byte MsrAnyDelta = 0x0f;
    private const byte MsrCts = 0x10;
    private const byte MsrDsr = 0x20;
    private const byte MsrDcd = 0x80;
}
